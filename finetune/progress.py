"""Progress: what a training needs to go on after a kill, in one file that is either old or new, never half; and the epochs.

Knows models, optimizers and schedules. Does not know what is being learnt.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.tensorboard import SummaryWriter


class Part(Protocol):
    """Whatever can say and take back its state: a model, an optimizer, a schedule."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Progress:
    """Saves and restores `parts` (models, optimizers, schedules) in `file`; `done` counts whatever the training counts."""

    def __init__(self, file: Path, *parts: Part) -> None:
        self.file, self.parts = file, parts

    def restore(self) -> int:
        """What was done when the file was saved, everything put back; 0 when there is none."""
        if not self.file.exists():
            return 0
        state = torch.load(self.file, weights_only=True)
        for part, kept in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(kept)
        return int(state["done"])

    def save(self, done: int) -> None:
        new = self.file.with_suffix(".new")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"parts": [part.state_dict() for part in self.parts], "done": done}, new)
        new.replace(self.file)


class Stopping:
    """Remembers the best epoch so far, across a kill."""

    def __init__(self) -> None:
        self.best, self.epoch = -1.0, 0

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.best, self.epoch = state["best"], int(state["epoch"])


def run_epochs(
    one_epoch: Callable[[int], tuple[float, float]],
    epochs: int,
    patience: int,
    out: Path,
    average: Part,
    *others: Part,
    measure: str,
    log: logging.Logger,
) -> None:
    """Run `one_epoch(number)` -> (mean loss, the `measure` on the validation part), at most `epochs` of them.

    Ends `patience` epochs after the best and leaves `average` as it was then. `others` is what is learnt besides; all of it
    is kept in `out` after each epoch, with curves for TensorBoard, and a training that was killed goes on from there.
    """
    stopping = Stopping()
    progress = Progress(out / "state.pt", others[0], average, *others[1:], stopping)
    best = Progress(out / "best.pt", average)
    with SummaryWriter(str(out / "events")) as board:
        for epoch in range(progress.restore(), epochs):
            if epoch - stopping.epoch >= patience:
                break
            started = time.perf_counter()
            loss, value = one_epoch(epoch)
            board.add_scalar("loss/train", loss, epoch + 1)
            board.add_scalar(f"{measure.lower()}/val", value, epoch + 1)
            seconds = time.perf_counter() - started
            log.info("epoch %d: loss %.3f, validation %s %.4f (%.0f s)", epoch + 1, loss, measure, value, seconds)
            if value >= stopping.best:
                stopping.best, stopping.epoch = value, epoch
                best.save(epoch)
            progress.save(epoch + 1)
    best.restore()
