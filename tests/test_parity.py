"""Parity: what the reference implementation of LLaVA-1.5 said, and what we say of the same checkpoint and input.

`tests/parity/record.py` recorded it with llava-torch 1.2.2.post1, in an environment of its own. The checkpoint lies here in
the reference's own layout, so it goes through the conversion that a person's would.
"""

import dataclasses
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import DynamicCache, LlavaForConditionalGeneration

from chat.conversation import Turn
from chat.engine.base import Message, Sampling
from chat.engine.checkpoint import Loaded, load
from chat.engine.decode import forward
from chat.engine.local import LocalEngine
from chat.prompt import View, encode, layout, render
from vision.tiling import Box

FIXTURE = Path(__file__).parent / "parity" / "fixture"
TENSORS = load_file(FIXTURE / "recorded.safetensors")
FACTS = json.loads((FIXTURE / "recorded.json").read_text("utf-8"))
CHATS = range(len(FACTS["said"]))
THEIR_IMAGE = -200


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The original folder, converted and loaded as `--model` loads it, in the float32 that the reference ran in."""
    folder = shutil.copytree(FIXTURE, tmp_path_factory.mktemp("parity"), dirs_exist_ok=True)
    loaded = load(folder / "llava-v1.5-narrow", "cpu", None)
    converted = folder / "llava-v1.5-narrow-hf"
    model: Any = LlavaForConditionalGeneration.from_pretrained(converted, dtype=torch.float32).eval()
    return dataclasses.replace(loaded, model=model, dtype=torch.float32)


def picture(number: int) -> Image.Image:
    """The noise that record.py drew, from the same seed."""
    width, height = FACTS["sizes"][number]
    return Image.frombytes("RGB", (width, height), random.Random(number).randbytes(3 * width * height))


def laid_out(chat: list[str], image: Image.Image) -> tuple[Message, ...]:
    """A chat that ends with a question, through the house's own builder."""
    turns = [Turn(question, answer) for question, answer in zip(chat[:-1:2], chat[1::2], strict=True)]
    return layout(chat[-1], turns, [View("overview", Box(0, 0, *image.size), image)], [], [], "en")


def theirs(ids: tuple[int, ...], loaded: Loaded) -> list[int]:
    """Our ids with the reference's one mark for each image."""
    start = ids.index(loaded.image_token_id)
    assert set(ids[start : start + loaded.tokens_per_image]) == {loaded.image_token_id}
    return [*ids[:start], THEIR_IMAGE, *ids[start + loaded.tokens_per_image :]]


@pytest.mark.parametrize("number", CHATS)
def test_the_prompt_is_the_references_letter_for_letter(number: int) -> None:
    said = FACTS["said"][number]
    assert render(laid_out(said["chat"], picture(0))) == said["prompt"]


@pytest.mark.parametrize("number", CHATS)
def test_the_ids_are_the_references(number: int, loaded: Loaded) -> None:
    said = FACTS["said"][number]
    ids = encode(laid_out(said["chat"], picture(0)), loaded.tokenizer, loaded.image_token_id, loaded.tokens_per_image).ids
    assert theirs(ids, loaded) == said["ids"]


def test_the_label_masks_of_two_hundred_records_are_the_references(loaded: Loaded) -> None:
    lengths = TENSORS["record_lengths"].tolist()
    assert len(lengths) == len(FACTS["records"]) == 200
    ids = TENSORS["record_ids"].split(lengths)
    masks = TENSORS["record_masks"].split(lengths)
    for chat, their_ids, their_mask in zip(FACTS["records"], ids, masks, strict=True):
        *messages, last = laid_out([*chat, ""], picture(0))
        assert last.role == "user"
        ours = encode(messages, loaded.tokenizer, loaded.image_token_id, 1)
        assert [THEIR_IMAGE if token == loaded.image_token_id else token for token in ours.ids] == their_ids.tolist()
        assert list(ours.is_answer) == their_mask.tolist()


@pytest.mark.parametrize("number", range(len(FACTS["sizes"])))
def test_the_padded_pixels_are_the_references(number: int, loaded: Loaded) -> None:
    processor: Any = loaded.image_processor
    pixels = processor(images=[picture(number)], return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(pixels, TENSORS[f"pixels_{number}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", CHATS)
def test_features_and_logits_are_the_references(number: int, loaded: Loaded) -> None:
    said = FACTS["said"][number]
    pixels = TENSORS[f"pixels_{number + 1}"][None]
    with torch.inference_mode():
        features: Any = loaded.model.get_image_features(pixel_values=pixels)
    torch.testing.assert_close(features.pooler_output[0], TENSORS[f"features_{number}"], rtol=0, atol=1e-4)
    encoded = encode(laid_out(said["chat"], picture(0)), loaded.tokenizer, loaded.image_token_id, loaded.tokens_per_image)
    wanted = TENSORS[f"logits_{number}"]
    cache = DynamicCache(config=loaded.model.config.get_text_config())
    logits = forward(loaded.model, encoded.ids, [features.pooler_output[0]], cache, keep=len(wanted))
    known = wanted.shape[-1]
    torch.testing.assert_close(logits[:, :known], wanted, rtol=0, atol=1e-4)
    assert (logits[:, known:].max(-1).values < logits[:, :known].max(-1).values).all()


@pytest.mark.parametrize("number", CHATS)
def test_thirty_two_greedy_tokens_are_the_references(number: int, loaded: Loaded) -> None:
    said = FACTS["said"][number]
    stream = LocalEngine(loaded).stream(laid_out(said["chat"], picture(number + 1)), Sampling(32, temperature=0), "parity")
    assert [token for delta in stream for token in delta.ids] == said["answer"]
    assert len(said["answer"]) == 32
