"""The token loop: the same ids as transformers' own, whole characters at every cut, and nothing computed unasked."""

import dataclasses
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from benchmarks.engine_speed import as_it_comes
from chat.engine.base import Delta, Sampling
from chat.engine.checkpoint import Loaded, load
from chat.engine.decode import Letters, decode, quicken
from chat.prompt import Encoded, encode

WORDS = ["Is", "there", "pneumonia", "폐렴이", "보입니까", "왼쪽", "lung", "🙂", "clear?", "\n"]
NEW_TOKENS = 32


@pytest.fixture(scope="module", params=["bfloat16", "float32", "nf4"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return checkpoint(tmp_path_factory.mktemp("tiny"), request.param)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return checkpoint(tmp_path_factory.mktemp("plain"), "float32")


def checkpoint(folder: Path, precision: str) -> Loaded:
    loaded = load(tiny.build(folder), "cpu", precision == "nf4")
    if precision == "nf4":
        return loaded
    dtype = getattr(torch, precision)
    return dataclasses.replace(loaded, model=loaded.model.to(dtype), dtype=dtype)


def random_prompt(seed: int, loaded: Loaded) -> Encoded:
    rng = random.Random(seed)
    images = [tiny.picture(100 * seed + i, (rng.randint(20, 200), rng.randint(20, 200))) for i in range(seed % 3)]
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 30)))
    return encode(tiny.question(text, *images), loaded.tokenizer, loaded.image_token_id, loaded.tokens_per_image)


def pixels(encoded: Encoded, loaded: Loaded) -> dict[str, torch.Tensor]:
    if not encoded.images:
        return {}
    values = loaded.image_processor(images=list(encoded.images), return_tensors="pt")["pixel_values"]
    return {"pixel_values": values.to(loaded.dtype)}


def ours(encoded: Encoded, loaded: Loaded, sampling: Sampling, end_ids: frozenset[int] | None = None) -> list[Delta]:
    features = []
    if encoded.images:
        with torch.inference_mode():
            features = loaded.model.get_image_features(**pixels(encoded, loaded)).pooler_output
    ends = loaded.end_ids if end_ids is None else end_ids
    return list(decode(loaded.model, loaded.tokenizer, encoded.ids, features, sampling, ends))


def theirs(encoded: Encoded, loaded: Loaded, **choices: object) -> list[int]:
    """By `generate`, with transformers' own attention."""
    ids = torch.tensor([encoded.ids])
    with as_it_comes(loaded):
        out = loaded.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, **pixels(encoded, loaded), **choices
        )
    new: list[int] = out[0, len(encoded.ids) :].tolist()
    return new[:-1] if new and new[-1] in loaded.end_ids else new


def ids_of(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.ids]


@pytest.mark.parametrize("seeds", [range(12), pytest.param(range(12, 50), marks=pytest.mark.slow)], ids=["twelve", "the rest"])
def test_greedy_ids_equal_generate_on_random_prompts(loaded: Loaded, seeds: range) -> None:
    different = []
    for seed in seeds:
        encoded = random_prompt(seed, loaded)
        sampling = Sampling(NEW_TOKENS, temperature=0)
        if ids_of(ours(encoded, loaded, sampling)) != theirs(encoded, loaded, do_sample=False):
            different.append(seed)
    assert different == []


@pytest.mark.parametrize(("temperature", "top_p"), [(0.1, 0.8), (1.0, 0.8), (1.7, 0.5), (1.0, 1.0), (1.0, 1e-9)])
def test_sampled_ids_equal_generate_with_the_same_seed(plain: Loaded, temperature: float, top_p: float) -> None:
    for seed in range(5):
        encoded = random_prompt(seed, plain)
        torch.manual_seed(seed)
        expected = theirs(encoded, plain, do_sample=True, temperature=temperature, top_p=top_p, top_k=0)
        assert ids_of(ours(encoded, plain, Sampling(NEW_TOKENS, temperature, top_p, seed))) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shared_by", [1, 2])
def test_a_quickened_model_says_what_it_said_before_to_a_rounding(dtype: torch.dtype, shared_by: int) -> None:
    """One token, several, and one behind padding; `shared_by` heads have their keys in common."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99}
    model: Any = LlamaForCausalLM(LlamaConfig(num_key_value_heads=4 // shared_by, **shape)).to(dtype).eval()
    rows, more = torch.randint(99, (2, 40)), torch.randint(99, (2, 1))
    mask = torch.ones(2, 41, dtype=torch.long)
    mask[1, 30:40] = 0

    def say() -> list[torch.Tensor]:
        cache = DynamicCache(config=model.config)
        behind = {"attention_mask": mask, "position_ids": torch.tensor([[40], [30]])}
        with torch.inference_mode():
            whole = model(rows, past_key_values=cache).logits
            one = model(more, past_key_values=cache).logits
            cache.crop(-1)
            return [whole, one, model(more, past_key_values=cache, **behind).logits]

    before = say()
    quicken(model)
    after = say()
    quicken(model, False)
    assert all(map(torch.equal, before, say()))
    assert torch.equal(before[0], after[0])
    assert all(map(partial(torch.allclose, atol=8 * torch.finfo(dtype).eps), before[1:], after[1:]))


def test_a_seed_repeats_an_answer_and_no_seed_does_not(plain: Loaded) -> None:
    encoded = random_prompt(1, plain)
    seeded = [ids_of(ours(encoded, plain, Sampling(NEW_TOKENS, 2.0, 1.0, seed))) for seed in (7, 7, 8)]
    assert seeded[0] == seeded[1] != seeded[2]
    unseeded = [ids_of(ours(encoded, plain, Sampling(NEW_TOKENS, 2.0, 1.0))) for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_one_delta_per_token_and_only_the_last_says_why_it_ended(plain: Loaded) -> None:
    deltas = ours(random_prompt(1, plain), plain, Sampling(NEW_TOKENS, temperature=0), frozenset())
    assert [len(delta.ids) for delta in deltas] == [1] * NEW_TOKENS
    assert [delta.finish for delta in deltas] == [None] * (NEW_TOKENS - 1) + ["length"]


def test_the_end_token_ends_the_answer_and_is_not_among_its_ids(plain: Loaded) -> None:
    encoded, sampling = random_prompt(1, plain), Sampling(NEW_TOKENS, temperature=0)
    ids = ids_of(ours(encoded, plain, sampling, frozenset()))
    end = next(token for token in ids[5:] if token not in ids[:5])
    deltas = ours(encoded, plain, sampling, plain.end_ids | {end})
    assert ids_of(deltas) == ids[: ids.index(end)]
    assert deltas[-1].finish == "stop"
    assert ours(encoded, plain, sampling, frozenset(ids)) == [Delta("", (), "stop")]


def test_nothing_is_computed_between_two_tokens_or_after_closing(plain: Loaded) -> None:
    forwards = []
    hook = plain.model.register_forward_hook(lambda *_: forwards.append(1))
    try:
        deltas = decode(plain.model, plain.tokenizer, random_prompt(0, plain).ids, [], Sampling(99, 0), plain.end_ids)
        assert not forwards
        for tokens in range(1, 6):
            next(deltas)
            assert len(forwards) == tokens
            assert not torch.is_inference_mode_enabled()
        deltas.close()
        assert next(deltas, None) is None
        assert len(forwards) == 5
    finally:
        hook.remove()


TOKENIZER = tiny.tokenizer()
BYTES = {i: bytes([int(token[3:5], 16)]) for token, i in TOKENIZER.get_vocab().items() if token.startswith("<0x")}


def spell(ids: list[int]) -> list[str]:
    letters = Letters(TOKENIZER)
    return [*(letters.push(token) for token in ids), letters.flush()]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁\ufffd")) | st.text("가힣폐렴 \n🙂aé1")


@given(text=texts)
def test_text_comes_back_whole_with_no_broken_character_at_any_cut(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False, split_special_tokens=True)
    pieces = spell(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids) == text.removeprefix(" ")
    assert not any("\ufffd" in piece for piece in pieces)


@given(text=texts, cut=st.integers(0, 50))
def test_an_answer_that_is_cut_short_ends_with_a_whole_character(text: str, cut: int) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert text.removeprefix(" ").startswith("".join(spell(ids[:cut])))


@settings(max_examples=300)
@given(ids=st.lists(st.sampled_from(sorted(BYTES)) | st.integers(0, len(TOKENIZER) - 1), max_size=30))
def test_broken_bytes_spoil_no_other_character(ids: list[int]) -> None:
    special = {i for i, token in TOKENIZER.added_tokens_decoder.items() if token.special}
    raw = b"".join(
        BYTES[token] if token in BYTES else TOKENIZER.convert_ids_to_tokens(token).replace("▁", " ").encode()
        for token in ids
        if token not in special
    )
    expected = raw.decode("utf-8", errors="replace").replace("\ufffd", "")
    said = "".join(spell(ids)).replace("\ufffd", "")
    assert said.lstrip(" ") == expected.lstrip(" ")
