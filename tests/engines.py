"""Engines under test: the same suites run over each of them.

Knows how to build an engine and how to count its work. Does not know what is asked of it.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tiny
import torch

from chat.engine.base import Message, Sampling
from chat.engine.checkpoint import Loaded, load
from chat.engine.local import LocalEngine

PRECISIONS = ["native", "float32", "nf4"]

GREEDY = Sampling(16, temperature=0)
PICTURE = tiny.picture(1)
ASKED = tiny.question("폐렴이 보입니까?", PICTURE)


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
    """One entry per forward pass of a real module."""
    calls: list[int] = []
    hook = module.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        hook.remove()


def ids(engine: LocalEngine, messages: Sequence[Message], session: str = "a", sampling: Sampling = GREEDY) -> tuple[int, ...]:
    return tuple(token for delta in engine.stream(messages, sampling, session) for token in delta.ids)
