"""The spotter: a small convolutional net that names what stands on each patch of a scene.

Knows scenes and patches. Does not know films or language. It learns shapes and letters in minutes where a ViT of
28-pixel patches needs hours, so the tower learns them from it, as it learns films from the teacher.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn

from finetune import canvas
from finetune.patches import SCENE_HEADS, Truth, losses, scene_truth, stacked
from finetune.progress import Progress
from finetune.scenes import Scene, draw_crowd, draw_scene

log = logging.getLogger(__name__)
WIDTH = 256
BATCH = 16
CROWDS = 0.75
"""The share of crowds among the scenes that are learnt from."""


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    def layer(a: int, b: int, step: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, step, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]

    return nn.Sequential(*layer(inputs, outputs, stride), *layer(outputs, outputs, 1))


class Spotter(nn.Module):
    """(n, 3, SIDE, SIDE) -> (n, GRID * GRID, WIDTH) features, and one linear head per thing a patch can say."""

    def __init__(self) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, 32, 7, 7), nn.BatchNorm2d(32), nn.ReLU()]
        self.body = nn.Sequential(*stem, _block(32, 64, 1), _block(64, 128, 2), _block(128, WIDTH, 2), _block(WIDTH, WIDTH, 1))
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, size) for name, size in SCENE_HEADS.items()})

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.body(pixel_values.contiguous(memory_format=torch.channels_last))
        return features.flatten(2).transpose(1, 2)


def draw(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, Truth]:
    """`count` scenes, mostly crowds, as (count, 3, SIDE, SIDE) in [0, 1] and the truth of their patches."""
    scenes: list[Scene] = [(draw_crowd if rng.random() < CROWDS else draw_scene)(rng) for _ in range(count)]
    return torch.stack([canvas.pixels(scene.image) for scene in scenes]), stacked([scene_truth(scene) for scene in scenes])


def train(out: Path, steps: int, seed: int) -> Spotter:
    """Train for `steps` batches; the state in `out` is saved often and resumed from."""
    torch.manual_seed(seed)
    spotter = Spotter()
    optimizer = torch.optim.AdamW(spotter.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=max(steps, 10), pct_start=0.15)
    progress = Progress(out / "spotter.pt", spotter, optimizer, schedule)
    for step in range(progress.restore(), steps):
        pixels, truth = draw(np.random.default_rng([seed, 4, step]), BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            features = spotter(canvas.normalise(pixels))
            parts = losses({name: head(features) for name, head in spotter.heads.items()}, truth)
        loss = torch.stack(list(parts.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            log.info("spotter %d/%d %s", step + 1, steps, " ".join(f"{name} {part.item():.3f}" for name, part in parts.items()))
            progress.save(step + 1)
    spotter.eval()
    return spotter
