"""The U-Net: where each class of structure lies in a film, with areas, components, boxes and sides.

Knows pixels and a folder that `finetune.segmenter` wrote. Does not know language, evidence or how it was trained.
"""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import ndimage

from vision.evidence import LUNGS, CheckpointError, Mask, Region
from vision.tiling import Box

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MEAN, STD = 0.5, 0.25
FINEST = 2048  # contours are computed at no more than so many pixels a side, for a film of any size


@dataclass(frozen=True)
class Plan:
    """What a folder holds beside its weights.

    `classes` are those of the output's channels after the first, which is the background; films are shown to it squashed to
    `size` x `size` pixels, or with `is_cropped` in windows of that size at the film's own scale. A class has never had more
    than `pieces` components in one film: the largest so many are kept.
    """

    classes: tuple[str, ...]
    size: int
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    pieces: tuple[int, ...] = ()
    is_cropped: bool = False


@dataclass(frozen=True)
class Segmentation:
    """A region per class, in their order, and the (k, h, w) float32 probabilities that they come from, at the model's size."""

    regions: tuple[Region, ...]
    probabilities: NDArray[np.float32]

    @property
    def masks(self) -> tuple[Mask, ...]:
        return tuple(region.mask for region in self.regions)

    @property
    def is_two_lungs(self) -> bool:
        """Whether it looks like the lungs of a frontal film: each on its side, together 10 % to 60 %, neither a sliver."""
        found = {region.mask.label: region for region in self.regions}
        if not set(LUNGS) <= set(found):
            return False
        right, left = (found[label] for label in LUNGS)
        if not right.box or not left.box or right.box.left + right.box.right >= left.box.left + left.box.right:
            return False
        smaller, larger = sorted((right.share, left.share))
        return 0.1 <= smaller + larger <= 0.6 and smaller >= larger / 4

    @property
    def lungs(self) -> tuple[Mask, ...]:
        """The right and the left lung where there are two, else nothing."""
        found = {mask.label: mask for mask in self.masks}
        return tuple(found[label] for label in LUNGS) if self.is_two_lungs else ()


class Segmenter:
    """A U-Net (Ronneberger et al. 2015; residual units and batch normalisation as in MONAI's) with its plan."""

    def __init__(self, model: torch.nn.Module, plan: Plan) -> None:
        self.model, self.plan = model.eval(), plan
        self.classes = plan.classes

    def segment(self, image: Image.Image, spacing: tuple[float, float] | None = None) -> Segmentation:
        """The regions of an image of any mode and size; `spacing` is the millimetres from row to row and column to column."""
        said = self.probabilities(image)
        size = image.size
        fine = min(size[0], max(FINEST, said.shape[2])), min(size[1], max(FINEST, said.shape[1]))
        index = _likeliest(said, fine)
        regions = []
        for value, label in enumerate(self.classes, start=1):
            values, components = _largest(index == value, self.plan.pieces[value - 1] if self.plan.pieces else None)
            if fine != size:
                values = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.NEAREST))
            regions.append(_measure(Mask(label, values), components, spacing))
        return Segmentation(tuple(regions), said[1:])

    @torch.inference_mode()
    def probabilities(self, image: Image.Image) -> NDArray[np.float32]:
        """(1 + k, h, w) float32, background first, on `size` x `size` cells or, where cropped, the film's pixels."""
        side = (self.plan.size, self.plan.size)
        grey = image.convert("L")
        if not self.plan.is_cropped:
            grey = grey.resize(side, Image.Resampling.BILINEAR)
        device = next(self.model.parameters()).device
        pixels = normalised(torch.from_numpy(np.array(grey))[None, None]).to(device)
        if self.plan.is_cropped:
            from monai.inferers.utils import sliding_window_inference

            # A film smaller than a window is padded by the library, and cut again.
            logits = cast(torch.Tensor, sliding_window_inference(pixels, side, 4, self.model, 0.25, mode="gaussian"))
        else:
            logits = self.model(pixels)
        return cast("NDArray[np.float32]", logits[0].float().softmax(0).cpu().numpy())

    def save(self, folder: Path) -> None:
        """Write weights (16-bit safetensors) and plan into `folder`."""
        half = {name: v.half() if v.is_floating_point() else v for name, v in self.model.state_dict().items()}
        save_file({name: value.cpu().contiguous() for name, value in half.items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(asdict(self.plan), indent=2) + "\n", "utf-8")


def normalised(grey: torch.Tensor) -> torch.Tensor:
    """uint8 grey values as the network takes them, in the memory layout in which convolutions are quickest."""
    return ((grey.float() / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def _likeliest(probabilities: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The likeliest class at each of (height, width) pixels for `size` (width, height), bilinear between cells."""
    if probabilities.shape[:0:-1] == size:
        return np.asarray(probabilities.argmax(0), np.uint8)
    best = np.full(size[::-1], -1, np.float32)
    index = np.zeros(size[::-1], np.uint8)
    for value, cells in enumerate(probabilities):
        values = F.interpolate(torch.from_numpy(cells)[None, None], size[::-1], mode="bilinear", antialias=True)[0, 0].numpy()
        larger = values > best
        index[larger], best[larger] = value, values[larger]
    return index


def _largest(values: NDArray[np.bool_], most: int | None) -> tuple[NDArray[np.bool_], int]:
    """The `most` largest components of a mask, and how many there are of them; all of them for None."""
    pieces, count = ndimage.label(values)
    if most is None or count <= most:
        return values, count
    kept = np.argsort(np.bincount(pieces.ravel())[1:], kind="stable")[::-1][:most] + 1
    return np.isin(pieces, kept), most


def _measure(mask: Mask, components: int, spacing: tuple[float, float] | None) -> Region:
    rows, columns = (np.flatnonzero(mask.values.any(axis)) for axis in (1, 0))
    pixels = int(mask.values.sum())
    area = pixels * spacing[0] * spacing[1] / 100 if spacing else None
    if not pixels:
        return Region(mask, 0.0, 0, area)
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    width = mask.values.shape[1]
    middle = float(mask.values.sum(0) @ (np.arange(width) + 0.5)) / pixels
    return Region(mask, pixels / mask.values.size, components, area, box, "right" if middle < width / 2 else "left")


def unet(classes: int, channels: Sequence[int]) -> torch.nn.Module:
    """A 2-D U-Net with random weights: one grey channel in, the background and `classes` out, halved once per level."""
    from monai.networks.nets.unet import UNet  # here, for it takes seconds to import, and a page can be up before

    model = UNet(2, 1, classes + 1, channels, strides=(2,) * (len(channels) - 1), num_res_units=2, act="RELU", norm="BATCH")
    return cast(torch.nn.Module, cast(Any, model).to(memory_format=torch.channels_last))


def open_segmenter(folder: Path, device: str = "cpu") -> Callable[[], Segmenter]:
    """A folder that `finetune.segmenter` wrote, with its own classes, read at once; its network is built at the first call.

    Both raise CheckpointError when it is missing or damaged.
    """
    if not folder.is_dir():
        message = f"There is no segmenter at {folder.name}. Give a folder that python -m finetune.segmenter wrote."
        raise CheckpointError(message, "no_segmenter", name=folder.name)
    message = f"The segmenter in {folder.name} cannot be read: it is damaged, or of another kind."
    message = f"{message} Copy it again, or train it with python -m finetune.segmenter."
    damaged = CheckpointError(message, "broken_segmenter", name=folder.name)
    try:
        fields = json.loads((folder / CONFIG).read_text("utf-8"))
        plan = Plan(**{name: cast(Any, tuple(v) if isinstance(v, list) else v) for name, v in fields.items()})
        weights = load_file(folder / WEIGHTS)
        if len(plan.pieces) not in (0, len(plan.classes)) or not plan.classes:
            raise ValueError("another number of classes")
    except Exception as error:  # a damaged file or configuration raises nearly every class there is
        raise damaged from error

    @functools.cache
    def build() -> Segmenter:
        try:
            model = unet(len(plan.classes), plan.channels)
            model.load_state_dict(weights)  # copied into 32 bits
        except Exception as error:
            raise damaged from error
        return Segmenter(model.to(device), plan)

    return build


def load_segmenter(folder: Path, device: str = "cpu") -> Segmenter:
    """The segmenter of `open_segmenter`, ready to be used."""
    return open_segmenter(folder, device)()
