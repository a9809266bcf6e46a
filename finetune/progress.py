"""Progress: what a training needs to go on after a kill, in one file that is either old or new, never half.

Knows models, optimizers and schedules. Does not know what is being learnt.
"""

from pathlib import Path
from typing import Any, Protocol

import torch


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
