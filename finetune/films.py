"""Films: real radiographs in a folder per class, as tensors, and the transforms that hide their shortcuts.

Knows files and pixels. Does not know models. In the source data the class shows in the aspect ratio, so
every transform randomises aspect and padding (see the data's own notes and `benchmarks`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from finetune import canvas
from finetune.records import Split
from finetune.samples import Sample, find_samples

LABELS = ("NORMAL", "BACTERIAL", "VIRAL")


@dataclass(frozen=True)
class Film:
    """One radiograph on disk; `label` indexes `LABELS`."""

    path: Path
    label: int
    patient: str
    split: Split


NEW = 0.6
"""The share of lessons about films that the eyes have not learnt from, where there are any: what a patch says of a film that
it was taught with is never wrong, and a model that only meets such films learns that it needs no hints."""


@dataclass(frozen=True)
class Films:
    """Films to teach with: (n, h, w) uint8 grey and (n,) labels as in `LABELS`.

    `chances` (n,) are the probabilities of pneumonia by a classifier that has not learnt from them, NaN where there are none;
    the films that have one are those that the eyes have not learnt from either.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    chances: torch.Tensor | None = None

    def draw(self, rng: np.random.Generator) -> tuple[Image.Image, int, float | None]:
        """A film, its label, drawn 45/30/25 among those there are, and its chance; stretched and padded, never mirrored."""
        labels = self.labels.numpy()
        chances = np.full(len(labels), np.nan) if self.chances is None else self.chances.numpy()
        is_new = ~np.isnan(chances)
        among = np.flatnonzero(is_new == (rng.random() < NEW)) if 0 < is_new.sum() < len(labels) else np.arange(len(labels))
        wanted = np.array([0.45, 0.3, 0.25]) * (np.bincount(labels[among], minlength=len(LABELS)) > 0)
        label = int(rng.choice(len(LABELS), p=wanted / wanted.sum()))
        index = int(rng.choice(among[labels[among] == label]))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        grey, _ = augment(self.pixels[index : index + 1], canvas.SIDE, generator, flip=False)
        image = Image.fromarray((grey[0, 0] * 255).to(torch.uint8).numpy()).convert("RGB")
        return image, label, float(chances[index]) if is_new[index] else None


def find_films(root: Path) -> list[Film]:
    """The films below `root/NORMAL` and `root/PNEUMONIA`, sorted; files of equal pixels are kept once."""
    found = find_samples(root, ("NORMAL", "PNEUMONIA"))
    kinds = [0 if s.label == "NORMAL" else 2 if "virus" in s.path.name.lower() else 1 for s in found]
    return [Film(s.path, kind, s.patient, s.split) for s, kind in zip(found, kinds, strict=True)]


def load_pixels(films: Sequence[Film] | Sequence[Sample], side: int = 224) -> torch.Tensor:
    """(n, side, side) uint8 grey values, resized without keeping the aspect."""
    grey = [np.asarray(Image.open(f.path).convert("L").resize((side, side), Image.Resampling.BICUBIC)) for f in films]
    return torch.from_numpy(np.stack(grey) if grey else np.zeros((0, side, side), np.uint8))


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """(n,) float32, uniform in [low, high)."""
    return low + (high - low) * torch.rand(n, generator=generator)


def augment(
    pixels: torch.Tensor, side: int, generator: torch.Generator, flip: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, h, w) uint8 -> (n, 1, side, side) float32 in [0, 1] and bool, each film with its own crop, stretch and contrast.

    Zoom 0.72 to 1.08 of the side, aspect 0.7 to 1.45, rotation up to 10 degrees, gamma, contrast and
    brightness jitter, a little noise; half the films are padded with black, half with a random grey. The
    second result is True where the film is.
    """
    n = len(pixels)
    zoom, log_aspect = uniform(n, 0.72, 1.08, generator), uniform(n, -0.37, 0.37, generator)
    angle = uniform(n, -0.17, 0.17, generator)
    width, height = zoom * torch.exp(-log_aspect / 2), zoom * torch.exp(log_aspect / 2)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    cos, sin = torch.cos(angle), torch.sin(angle)
    reach_x, reach_y = (1 - width).clamp(min=0.04), (1 - height).clamp(min=0.04)
    shift_x, shift_y = uniform(n, -1, 1, generator) * reach_x, uniform(n, -1, 1, generator) * reach_y
    theta = torch.stack(
        [
            torch.stack([mirror * width * cos, -width * sin, shift_x], 1),
            torch.stack([height * sin * mirror, height * cos, shift_y], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [n, 1, side, side], align_corners=False)
    grey = F.grid_sample(pixels[:, None].float() / 255, grid, padding_mode="zeros", align_corners=False)
    inside = (grid.abs() <= 1).all(-1)[:, None]
    gamma = torch.exp(uniform(n, -0.35, 0.35, generator)).view(n, 1, 1, 1)
    contrast, offset = uniform(n, 0.7, 1.3, generator).view(n, 1, 1, 1), uniform(n, -0.1, 0.1, generator).view(n, 1, 1, 1)
    grey = ((grey.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5 + offset).clamp(0, 1)
    grey = grey + torch.randn(grey.shape, generator=generator) * 0.02 * torch.rand(n, 1, 1, 1, generator=generator)
    padding = torch.where(torch.rand(n, generator=generator) < 0.5, 0.0, torch.rand(n, generator=generator)).view(n, 1, 1, 1)
    return torch.where(inside, grey, padding).clamp(0, 1), inside


def occlude(grey: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(n, 1, h, w) films in [0, 1] with up to two boxes each painted over: a bright small one, as a lead letter, or any.

    Random erasing (Zhong et al. 2017), so that no one place, and no marker, decides.
    """
    n, _, height, width = grey.shape
    rows, columns = torch.arange(height).view(1, 1, -1, 1) / height, torch.arange(width).view(1, 1, 1, -1) / width
    for _ in range(2):
        is_there, is_bright = (torch.rand(n, 1, 1, 1, generator=generator) < 0.35 for _ in range(2))
        small, large = (uniform(2 * n, low, high, generator).view(2, n, 1, 1, 1) for low, high in ((0.03, 0.1), (0.05, 0.3)))
        tall, wide = torch.where(is_bright, small, large)
        top, left = torch.rand(2, n, 1, 1, 1, generator=generator) * (1 - torch.stack([tall, wide]))
        inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
        shade = torch.rand(n, 1, 1, 1, generator=generator)
        grey = torch.where(inside & is_there, torch.where(is_bright, 0.75 + 0.25 * shade, shade), grey)
    return grey
