"""Engines under test: the same suites run over each of them.

Knows how to build an engine and how to count its work. Does not know what is asked of it.
"""

import ctypes
import dataclasses
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny
import torch

from chat.engine.base import Engine, Message, Sampling
from chat.engine.checkpoint import Loaded, load
from chat.engine.local import LocalEngine

PRECISIONS = ["native", "float32", "nf4"]

GREEDY = Sampling(16, temperature=0)
PICTURE = tiny.picture(1)
ASKED = tiny.question("폐렴이 보입니까?", PICTURE)

WITH_GLIBC = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")


@dataclasses.dataclass
class Subject:
    """An engine, and the checkpoint inside it for those tests that count its work."""

    engine: LocalEngine
    loaded: Loaded


def build(folder: Path, precision: str) -> Subject:
    tiny.build(folder)
    tiny.write_manifest(folder, name="tiny", max_images=3)
    loaded = load(folder, "cpu", precision == "nf4")
    if precision == "float32":
        loaded = dataclasses.replace(loaded, model=loaded.model.float(), dtype=torch.float32)
    engine = LocalEngine(loaded)
    engine.warm_up()
    return Subject(engine, loaded)


@contextmanager
def counted(module: torch.nn.Module) -> Iterator[list[int]]:
    """One entry per forward pass of a real module, also of one that is left before its end."""
    calls: list[int] = []
    hook = module.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        hook.remove()


@contextmanager
def reading(model: torch.nn.Module) -> Iterator[list[int]]:
    """How many tokens each forward pass of the language model takes in."""
    lengths: list[int] = []

    def note(_: torch.nn.Module, __: object, given: dict[str, torch.Tensor]) -> None:
        lengths.append(given["inputs_embeds"].shape[1])

    hook = model.get_submodule("model.language_model").register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield lengths
    finally:
        hook.remove()


@contextmanager
def heard(model: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """The logits of each forward pass that gives some."""
    logits: list[torch.Tensor] = []
    hook = model.get_submodule("lm_head").register_forward_hook(lambda *called: logits.append(called[2].float().clone()))
    try:
        yield logits
    finally:
        hook.remove()


def build_answering_alike(folder: Path) -> Path:
    """A checkpoint whose answers are plain ASCII and never end by themselves, the same in fp32 whoever runs it.

    Saved in 16 bits, so that no loader rounds what another does not; sampling is on, which a server has to be told.
    """
    tiny.silence(tiny.build(folder, dtype=torch.bfloat16), tiny.beyond_ascii())
    tiny.write_manifest(folder, name="tiny", max_images=3)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"do_sample": True}), "utf-8")
    return folder


def load_local(folder: Path, precision: str) -> LocalEngine:
    """The local engine on a checkpoint in `float32` or `nf4`."""
    loaded = load(folder, "cpu", precision == "nf4")
    if precision == "float32":
        loaded = dataclasses.replace(loaded, model=loaded.model.float(), dtype=torch.float32)
    engine = LocalEngine(loaded)
    engine.warm_up()
    return engine


def text(engine: Engine, messages: Sequence[Message], sampling: Sampling = GREEDY, session: str = "a") -> str:
    return "".join(delta.text for delta in engine.stream(messages, sampling, session))


def in_thread(work: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread


def ids(engine: LocalEngine, messages: Sequence[Message], session: str = "a", sampling: Sampling = GREEDY) -> tuple[int, ...]:
    return tuple(token for delta in engine.stream(messages, sampling, session) for token in delta.ids)


def given_back(rest: Callable[[], object]) -> int:
    """Bytes that the system has back after a `rest`, of 90 MiB that were freed between 10 that stay."""
    blocks = [bytes([1]) * (100 << 10) for _ in range(1000)]
    stay, before = blocks[::10], _resident()
    blocks.clear()
    rest()
    assert stay
    return before - _resident()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
