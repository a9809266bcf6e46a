"""The verifier: whether two pictures that were laid over one another show the same thing, whatever its colours.

Knows pixels and the weights that `finetune.verifier` wrote. Does not know images that are searched, tiles or language.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from vision.evidence import CheckpointError

FOLDER = Path(__file__).parents[1] / "models" / "patch-verifier"
WEIGHTS = "model.safetensors"
SIDE = 64
"""Pixels of each picture's side; the thing's longer side takes two thirds of it."""

REACH = 2
AT_ONCE = 16
WAYS = tuple((quarters, is_mirrored) for is_mirrored in (False, True) for quarters in range(4))


class Verifier(nn.Module):
    """Two pictures through one encoder, how their cells correlate, and a judgement: a two-stream comparison of patches
    (Zagoruyko and Komodakis 2015) on a correlation layer (Dosovitskiy et al. 2015, FlowNet) of `REACH` cells either way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(_layer(3, 24, 5, 2), _layer(24, 48), _layer(48, 48, 3, 2), _layer(48, 48))
        self.weigh = nn.Sequential(_layer(2 * 48 + (2 * REACH + 1) ** 2, 64), _layer(64, 64, 3, 2), _layer(64, 96, 3, 2))
        self.judge = nn.Sequential(nn.Linear(2 * 96, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, references: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """(n, 3, SIDE, SIDE) each, of any range -> (n,) log-odds of being the same thing."""
        one, other = self.see(_levelled(torch.cat([references, places]))).chunk(2)
        likeness = [
            (functional.normalize(one, dim=1) * shifted).sum(1) for shifted in _shifted(functional.normalize(other, dim=1))
        ]
        weighed = self.weigh(torch.cat([one, (one - other).abs(), torch.stack(likeness, 1)], 1))
        judged: torch.Tensor = self.judge(torch.cat([weighed.mean((2, 3)), weighed.amax((2, 3))], 1))
        return judged[:, 0]

    @torch.inference_mode()
    def compare(self, pairs: Sequence[tuple[Image.Image, Image.Image]], ways: int = 1) -> list[float]:
        """The log-odds that each reference and its place, SIDE x SIDE RGB, show the same thing: the mean over so many of the
        `WAYS` in which both can be turned and mirrored alike (test-time augmentation), of which the first leaves them as they
        are.
        """
        said: list[float] = []
        for start in range(0, len(pairs), AT_ONCE):
            both = [as_tensor(pictures) for pictures in zip(*pairs[start : start + AT_ONCE], strict=True)]
            said += sum(self(*(_laid(each, *way) for each in both)) for way in WAYS[:ways]).div(ways).tolist()
        return said

    def save(self, folder: Path) -> None:
        """Write the weights (16-bit safetensors) into `folder`."""
        save_file({name: value.half().cpu().contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)


def as_tensor(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """(n, 3, height, width) float32 in [0, 1]."""
    stacked = np.stack([np.asarray(picture, np.float32) for picture in pictures]) / 255
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def _laid(pictures: torch.Tensor, quarters: int, is_mirrored: bool) -> torch.Tensor:
    return torch.rot90(pictures.flip(3) if is_mirrored else pictures, quarters, (2, 3))


def _layer(inputs: int, outputs: int, size: int = 3, step: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, size, step, size // 2, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, outputs), nn.ReLU())


def _levelled(pictures: torch.Tensor) -> torch.Tensor:
    """Without their mean, at about unit spread: light and contrast say nothing about what a thing is."""
    away = pictures - pictures.mean((1, 2, 3), keepdim=True)
    return away / (away.std((1, 2, 3), keepdim=True) + 0.03)


def _shifted(cells: torch.Tensor) -> list[torch.Tensor]:
    """(n, d, h, w) moved by up to `REACH` cells either way, nothing beyond the edge."""
    padded, (height, width) = functional.pad(cells, (REACH,) * 4), cells.shape[2:]
    steps = range(2 * REACH + 1)
    return [padded[:, :, y : y + height, x : x + width] for y in steps for x in steps]


@functools.cache
def load_verifier(folder: Path = FOLDER) -> Verifier:
    """The verifier in a folder, read once. Raises CheckpointError when it is missing or damaged."""
    verifier = Verifier().eval()
    try:
        verifier.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    except Exception as error:  # a damaged file raises nearly every class there is
        message = (
            f"The weights of the search in {folder.name} are missing or damaged. Copy the folder models/{folder.name} again."
        )
        raise CheckpointError(message, "broken_verifier", name=folder.name) from error
    return verifier
