"""Adapters on a loaded base: on and off without a trace, over one copy of the weights, and refused where they do not belong."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engines
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from chat.engine.adapter import CONFIG, WEIGHTS, SwitchedEngine, identity, open_pair, read_receipt
from chat.engine.base import EngineError, EngineUnavailable, Sampling
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.engine.quantize import quantize
from chat.engine.store import MANIFEST
from chat.loading import open_engine, open_engines
from chat.settings import Settings
from finetune.lora import finish
from finetune.lora_base import inject, open_base
from finetune.receipts import add_metrics, write_receipt

GREEDY = Sampling(12, temperature=0)
QUESTION = tiny.question("Is there pneumonia?", tiny.picture(3))


def make_adapter(folder: Path, base: Path, seed: int = 0) -> Path:
    """An adapter as a training writes it, with random matrices and a projector that was moved."""
    read = open_base(base, "cpu", False)
    torch.manual_seed(seed)
    peft = inject(read, 4, 8, 0.0, projector=True)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if ".lora_B." in name or "modules_to_save" in name:
                weight += 0.2 * torch.randn_like(weight)
    folder.mkdir()
    facts = {"name": folder.name, "rank": 4, "projector": True, "base": {"name": base.name, "sha256": identity(base)}}
    finish(folder, peft, facts | {"metrics": {}})
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.silence(tiny.build(tmp_path_factory.mktemp("adapter") / "base"), [tiny.tokenizer().eos_token_id])


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapters") / "mine", base)


def ids(engine: LocalEngine, session: str = "s") -> list[int]:
    found = [token for delta in engine.stream(QUESTION, GREEDY, session) for token in delta.ids]
    engine.forget(session)
    return found


def test_the_base_answers_as_if_there_were_no_adapter(base: Path, adapter: Path) -> None:
    alone = ids(LocalEngine(load(base, "cpu", None)))
    plain, adapted = open_pair(load(base, "cpu", None), base, adapter)
    taught = ids(adapted)
    assert taught != alone and (plain.name, adapted.name) == ("base", "mine")
    assert [ids(plain), ids(adapted), ids(plain), ids(adapted)] == [alone, taught, alone, taught]
    first, second = plain.choose([QUESTION], ("Yes", "No")), adapted.choose([QUESTION], ("Yes", "No"))
    assert (first != second).any()


def test_callers_of_both_at_once_get_what_they_get_alone(base: Path, adapter: Path) -> None:
    pair = open_pair(load(base, "cpu", None), base, adapter)
    wanted = [ids(engine) for engine in pair]
    found: dict[int, list[int]] = {}
    threads = [threading.Thread(target=lambda n=n: found.__setitem__(n, ids(pair[n % 2], f"s{n}"))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(6)] == [wanted[n % 2] for n in range(6)]


ASKED = [
    tiny.question(text, tiny.picture(seed))
    for text in ("Is there pneumonia?", "Is there pneumonia in the left lung?")
    for seed in (3, 4)
]
Asking = tuple[bool, int, str, bool]
"""Whether the adapted one is asked, which question, in which session, and whether that is forgotten first."""


@pytest.fixture(scope="module")
def mixed(base: Path, adapter: Path) -> tuple[SwitchedEngine, SwitchedEngine]:
    return open_pair(load(base, "cpu", None), base, adapter)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, len(ASKED) - 1), st.sampled_from("ab"), st.booleans()), max_size=8))
def test_what_one_has_read_never_serves_the_other(mixed: tuple[SwitchedEngine, SwitchedEngine], asked: list[Asking]) -> None:
    for is_adapted, number, session, is_forgotten in asked:
        engine = mixed[is_adapted]
        if is_forgotten:
            mixed[1].forget(session)
        else:
            engine.prepare(ASKED[number], session)
        warm = engines.ids(engine, ASKED[number], session, GREEDY)
        assert warm == engines.ids(engine, ASKED[number], "fresh", GREEDY)
        mixed[1].forget("fresh")


def test_forgetting_a_session_of_the_adapted_forgets_what_the_base_has_read(
    mixed: tuple[SwitchedEngine, SwitchedEngine],
) -> None:
    for engine in mixed:
        engine.prepare(QUESTION, "mine")
        assert engine._sessions.bytes
    mixed[1].forget("mine")
    for session in ("a", "b", "fresh"):
        mixed[1].forget(session)
    assert [engine._sessions.bytes for engine in mixed] == [0, 0]


def test_closing_one_leaves_the_other(base: Path, adapter: Path) -> None:
    plain, adapted = open_pair(load(base, "cpu", None), base, adapter)
    taught = ids(adapted)
    plain.close()
    assert ids(adapted) == taught


def test_an_adapter_serves_over_the_four_bit_copy_of_its_base(base: Path, adapter: Path, tmp_path: Path) -> None:
    quantize(base, tmp_path / "four")
    assert identity(tmp_path / "four") == identity(base)
    plain, adapted = open_pair(load(tmp_path / "four", "cpu", None), tmp_path / "four", adapter)
    assert ids(plain) != ids(adapted)


def test_figures_are_added_to_a_receipt_that_stays_whole(adapter: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(adapter, tmp_path / "mine")
    add_metrics(folder, {"closed": 0.7})
    add_metrics(folder, {"open": 0.1})
    assert read_receipt(folder)["metrics"] == {"closed": 0.7, "open": 0.1}


def seal_again(folder: Path) -> None:
    write_receipt(folder, json.loads((folder / MANIFEST).read_text())["source"])


def change_config(folder: Path, **values: Any) -> None:
    (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | values))
    seal_again(folder)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    seal_again(folder)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def without(part: str) -> Callable[[Path], None]:
    return lambda folder: change_weights(folder, lambda all_: {name: w for name, w in all_.items() if part not in name})


def longer(folder: Path) -> None:
    change_weights(folder, lambda all_: {name: torch.cat([w, w]) if "lora_B" in name else w for name, w in all_.items()})


def in_tower(folder: Path) -> None:
    change_weights(folder, lambda all_: {name.replace("language_model", "vision_tower"): w for name, w in all_.items()})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a byte": (lambda folder: flip(folder / WEIGHTS), "adapter_model.safetensors is missing or was changed"),
    "a rank": (lambda folder: (folder / CONFIG).write_text("{}"), "adapter_config.json is missing or was changed"),
    "weights gone": (lambda folder: (folder / WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), "nothing says which base"),
    "no adapter": (lambda folder: (folder / CONFIG).unlink(), "is no adapter"),
    "half a manifest": (lambda folder: (folder / MANIFEST).write_text('{"source": {'), "is not a manifest"),
    "another manifest": (
        lambda folder: write_receipt(folder, {"files": {}}), "manifest of something else than an adapter",
    ),
    "nothing listed": (
        lambda folder: (folder / MANIFEST).write_text('{"source": {"base": {"sha256": ""}}, "files": {}}'), "was changed",
    ),
    "no projector": (without("projector"), "lacks the projector"),
    "a layer gone": (without("layers.1.mlp"), "tensors lack"),
    "another width": (longer, "cannot be loaded as a LoRA adapter"),
    "dora": (lambda folder: change_config(folder, use_dora=True), "not a plain LoRA"),
    "a module to import": (lambda folder: change_config(folder, megatron_config={"x": 1}), "not a plain LoRA"),
    "no numbers": (lambda folder: change_config(folder, r="many"), "cannot be loaded as a LoRA adapter"),
    "the tower": (in_tower, "changes the vision tower"),
    "no weights": (
        lambda folder: ((folder / WEIGHTS).write_bytes(b"{}"), seal_again(folder)), "damaged, cut short",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_an_adapter_that_is_not_as_it_was_trained_is_one_sentence(what: str, base: Path, adapter: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(adapter, tmp_path / "mine")
    damage, said = BROKEN[what]
    damage(folder)
    with pytest.raises(EngineUnavailable) as caught:
        open_pair(load(base, "cpu", None), base, folder)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_adapter_of_another_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = tiny.build(tmp_path / "other", seed=1)
    with pytest.raises(EngineUnavailable, match="trained over base with other weights than"):
        open_pair(load(other, "cpu", None), other, adapter)


def test_the_settings_model_is_opened_with_its_adapter_and_its_base_beside_it(base: Path, adapter: Path) -> None:
    engine, plain = open_engines(Settings(model=str(base)), adapter)
    assert isinstance(engine, LocalEngine) and plain is not None and ids(engine) != ids(plain)
    assert engine.name == "mine" and open_engine(Settings(model=str(base))).name == "base"
    with pytest.raises(EngineError, match="goes onto a checkpoint on this machine"):
        open_engine(Settings(model="http://127.0.0.1:9", adapter=str(adapter)))
