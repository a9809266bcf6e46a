"""A served page: the real page on the real engine with a tiny checkpoint, on loopback, in this process.

Knows how Hilum is put together. Does not know what is tested on it.
"""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tiny
import torch
from safetensors.torch import load_file, save_file

from chat.engine.base import Delta, Message, Sampling
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine

if TYPE_CHECKING:
    from vision.examiner import Examiner


class UnhurriedEngine(LocalEngine):
    """The real engine at the pace of a larger model: `pause` seconds before each token. `served` counts the tokens."""

    pause = 0.0
    served = 0

    def stream(self, messages: Sequence[Message], sampling: Sampling, session: str) -> Iterator[Delta]:
        for delta in super().stream(messages, sampling, session):
            time.sleep(self.pause)
            self.served += 1
            yield delta


@dataclass
class Served:
    """Where the page is, what answers on it, and where uploads pass through."""

    url: str
    engine: UnhurriedEngine
    uploads: Path

    def left_over(self) -> list[Path]:
        """Files that somebody forgot on the disk."""
        return [path for path in self.uploads.rglob("*") if path.is_file()]


def build_checkpoint(folder: Path) -> Path:
    """A tiny checkpoint that never ends an answer by itself: the end token cannot be the likeliest."""
    tiny.build(folder)
    weights = load_file(folder / "model.safetensors")
    head = next(name for name in weights if name.endswith("lm_head.weight"))
    weights[head][tiny.tokenizer().eos_token_id] = torch.zeros(())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@contextmanager
def serve(
    folder: Path,
    max_new_tokens: int = 8,
    turns: int = 5,
    max_pixels: int = 200_000_000,
    examiner: "Examiner | None" = None,
    max_images: int | None = None,
) -> Iterator[Served]:
    """Serve a page that answers greedily, until the end of the block."""
    uploads = folder / "uploads"
    uploads.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    from chat.assistant import Assistant
    from chat.ui import page
    from chat.ui.panels import About

    checkpoint = build_checkpoint(folder / "checkpoint")
    if max_images:
        tiny.write_manifest(checkpoint, name="tiny", max_images=max_images)
    engine = UnhurriedEngine(load(checkpoint, "cpu", None))
    engine.warm_up()
    about = About("tiny", "cpu", "float32", True, engine.limits.context_tokens)
    sampling = Sampling(max_new_tokens, temperature=0)
    blocks = page.build(Assistant(engine, engine.input_side, examiner=examiner), about, sampling, None, max_pixels, turns)
    try:
        yield Served(page.launch(blocks, "127.0.0.1", free_port()), engine, uploads)
    finally:
        blocks.close(verbose=False)
        engine.close()
        del os.environ["GRADIO_TEMP_DIR"]


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
