"""The canvas: pictures of any size as the square that the embedded model sees, and their truth on its patch grid.

Knows padding, resizing and patches. Does not know what is in a picture. It follows the serving image
processor (pad to a square with the mean colour, bicubic resize), so training sees what serving shows.
"""

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD  # type: ignore[attr-defined]

SIDE = 336
GRID = 11
"""Patches along a side: what five halvings leave of SIDE."""
MEAN_COLOUR = tuple(int(255 * value) for value in OPENAI_CLIP_MEAN)
_MEAN = torch.tensor(OPENAI_CLIP_MEAN).view(3, 1, 1)
_STD = torch.tensor(OPENAI_CLIP_STD).view(3, 1, 1)


def _square(image: Image.Image, fill: int | tuple[int, ...]) -> Image.Image:
    side = max(image.size)
    if image.size == (side, side):
        return image
    canvas = Image.new(image.mode, (side, side), fill)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def pixels(image: Image.Image) -> torch.Tensor:
    """(3, SIDE, SIDE) float32 in [0, 1] of an RGB image, padded with the mean colour."""
    square = _square(image, MEAN_COLOUR).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1).float() / 255


def normalise(batch: torch.Tensor) -> torch.Tensor:
    """(..., 3, SIDE, SIDE) in [0, 1] -> CLIP's normalisation."""
    return (batch - _MEAN) / _STD


def patch_shares(index: Image.Image) -> np.ndarray:
    """(GRID, GRID, 256) float32: the share of each patch that each value of an index image covers."""
    cell = 14
    small = np.asarray(_square(index, 0).resize((GRID * cell, GRID * cell), Image.Resampling.NEAREST))
    cells = small.reshape(GRID, cell, GRID, cell).transpose(0, 2, 1, 3).reshape(GRID * GRID, cell * cell).astype(np.int64)
    counts = np.bincount((np.arange(GRID * GRID)[:, None] * 256 + cells).ravel(), minlength=GRID * GRID * 256)
    return (counts.reshape(GRID, GRID, 256) / (cell * cell)).astype(np.float32)


def centre_patch(index_shares: np.ndarray, value: int) -> tuple[int, int] | None:
    """(row, column) of the patch where the part of the picture with this index value has its centre."""
    weight = index_shares[:, :, value]
    if not weight.any():
        return None
    rows, columns = np.mgrid[:GRID, :GRID]
    return round(float((rows * weight).sum() / weight.sum())), round(float((columns * weight).sum() / weight.sum()))
