"""Progress: what a training needs to go on after a kill, in one file that is either old or new, never half.

Knows a model, its optimizer and its schedule. Does not know what is being learnt.
"""

from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Progress:
    """Saves and restores `model`, `optimizer` and `schedule` in `file`; `done` counts whatever the training counts."""

    def __init__(self, file: Path, model: nn.Module, optimizer: Optimizer, schedule: LRScheduler) -> None:
        self.file, self.model, self.optimizer, self.schedule = file, model, optimizer, schedule

    def restore(self) -> int:
        """What was done when the file was saved, everything put back; 0 when there is none."""
        if not self.file.exists():
            return 0
        state = torch.load(self.file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return int(state["done"])

    def save(self, done: int) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        new = self.file.with_suffix(".new")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({**state, "done": done}, new)
        new.replace(self.file)
