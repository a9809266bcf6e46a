"""Augmentation for segmentation: films and masks moved together, films alone re-toned and partly covered.

Knows pixels and a generator. Does not know files, classes or models. Films are never mirrored: right and left are classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from finetune.films import occlude, uniform
from finetune.seg_pairs import IGNORE


def deform(
    films: torch.Tensor, masks: torch.Tensor, side: int, generator: torch.Generator, strength: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, h, w) uint8 films and masks -> (n, 1, side, side) float32 in [0, 1] and (n, side, side) int64, each its own way.

    Shift up to 12 % of the side, scale 0.75 to 1.15 and aspect 0.75 to 1.35 (both as what is seen of the film), rotation up to
    12 degrees, elastic deformation by a smooth field of up to about 3 % (Simard et al. 2003), gamma, contrast, brightness and
    noise; what lies outside is a bar, black or grey, and background. All of it is as much less as `strength` is under 1.
    """
    n = len(films)
    zoom = torch.exp(strength * uniform(n, -0.14, 0.29, generator))
    log_aspect, angle = strength * uniform(n, -0.3, 0.3, generator), strength * uniform(n, -0.21, 0.21, generator)
    width, height = zoom * torch.exp(-log_aspect / 2), zoom * torch.exp(log_aspect / 2)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift_x, shift_y = strength * uniform(2 * n, -0.24, 0.24, generator).view(2, n)
    theta = torch.stack([width * cos, -width * sin, shift_x, height * sin, height * cos, shift_y], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, 1, side, side], align_corners=False)
    field = torch.randn(n, 2, 5, 5, generator=generator) * uniform(n, 0, 0.035 * strength, generator).view(n, 1, 1, 1)
    grid = grid + F.interpolate(field, (side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    grey = F.grid_sample(films[:, None].float() / 255, grid, align_corners=False)
    truth = F.grid_sample(masks[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0]
    inside = (grid.abs() <= 1).all(-1)[:, None]
    return occlude(_toned(grey, inside, generator, strength), generator), truth.round().long()


def _toned(grey: torch.Tensor, inside: torch.Tensor, generator: torch.Generator, strength: float) -> torch.Tensor:
    n = len(grey)
    gamma = torch.exp(strength * uniform(n, -0.5, 0.5, generator)).view(n, 1, 1, 1)
    contrast = torch.exp(strength * uniform(n, -0.5, 0.3, generator)).view(n, 1, 1, 1)
    offset = strength * uniform(n, -0.12, 0.12, generator).view(n, 1, 1, 1)
    grey = ((grey.clamp(1e-4, 1) ** gamma - 0.5) * contrast + 0.5 + offset).clamp(0, 1)
    grey = grey + torch.randn(grey.shape, generator=generator) * 0.03 * torch.rand(n, 1, 1, 1, generator=generator)
    bar = torch.where(torch.rand(n, generator=generator) < 0.6, 0.0, torch.rand(n, generator=generator)).view(n, 1, 1, 1)
    return torch.where(inside, grey, bar).clamp(0, 1)


def windows(
    pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]], side: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A window of `side` x `side` pixels of each (film, mask) at its own scale, anywhere in it; what is missing is ignored."""
    films, masks = [], []
    for film, mask in pairs:
        missing = [(0, max(0, side - length)) for length in film.shape]
        film, mask = np.pad(film, missing), np.pad(mask, missing, constant_values=IGNORE)
        starts = [int(torch.randint(length - side + 1, (1,), generator=generator)) for length in film.shape]
        where = tuple(slice(start, start + side) for start in starts)
        films.append(torch.from_numpy(film[where]))
        masks.append(torch.from_numpy(mask[where]))
    return torch.stack(films), torch.stack(masks)
