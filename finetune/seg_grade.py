"""Grades of a segmentation: Dice, IoU and the 95 % Hausdorff distance per film and class, and the worst films to look at.

Knows masks with known truth. Does not know models or files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from numpy.typing import NDArray
from PIL import Image

from finetune.metrics import bootstrap
from finetune.seg_pairs import IGNORE
from vision.evidence import Mask
from vision.overlay import draw_masks

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
NAMES = ("dice", "iou", "hausdorff95")
TILE, COLUMNS = 256, 4


def grade(said: Sequence[Bools], truth: NDArray[np.uint8]) -> Floats:
    """(3, k): Dice, IoU and the 95 % Hausdorff distance (as a share of the diagonal) of each class, ignored pixels left out.

    A class that is in neither is NaN; one that is in one of them alone has Dice 0 and the whole diagonal for a distance.
    """
    is_known = truth != IGNORE
    found = np.full((3, len(said)), np.nan)
    for k, mask in enumerate(said):
        a, b = mask & is_known, truth == k + 1
        both, total = int((a & b).sum()), int(a.sum()) + int(b.sum())
        if not total:
            continue
        found[:, k] = 2 * both / total, both / (total - both), 1.0
        if a.any() and b.any():
            first, second = (torch.from_numpy(values)[None, None] for values in (a, b))
            distance = compute_hausdorff_distance(first, second, include_background=True, percentile=95)
            found[2, k] = float(distance) / float(np.hypot(*truth.shape))
    return found


def summarise(grades: Floats, classes: Sequence[str], patients: Sequence[str], rounds: int = 1000) -> dict[str, Any]:
    """(n, 3, k) grades -> the mean over the films of each class, `mean` over the classes, and 95 % intervals over patients.

    A class that no film has is None.
    """

    def measure(index: NDArray[np.intp]) -> dict[str, float | None]:
        per_class = [[_mean(column) for column in rows] for rows in grades[index].transpose(1, 2, 0)]
        flat: dict[str, float | None] = {}
        for name, values in zip(NAMES, per_class, strict=True):
            known = [value for value in values if value is not None]
            flat |= {f"{name} {label}": value for label, value in zip(classes, values, strict=True)}
            flat[f"{name} mean"] = float(np.mean(known)) if known else None
        return flat

    found = measure(np.arange(len(grades)))
    intervals = bootstrap(measure, patients, rounds)
    return {
        **{name: {label: found[f"{name} {label}"] for label in [*classes, "mean"]} for name in NAMES},
        "intervals": {name: {label: intervals.get(f"{name} {label}") for label in [*classes, "mean"]} for name in NAMES},
    }


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def draw_pair(film: Image.Image, said: Sequence[Mask], truth: NDArray[np.uint8]) -> Image.Image:
    """A tile of the sheet: the film with the outlines of the truth, then, in the colours that follow, of what was said."""
    true = [Mask(f"true {mask.label}", truth == k) for k, mask in enumerate(said, start=1)]
    drawn = draw_masks(film.convert("RGB"), [*true, *said], TILE)
    tile = Image.new("RGB", (TILE, TILE))
    tile.paste(drawn, ((TILE - drawn.width) // 2, (TILE - drawn.height) // 2))
    return tile


def sheet(tiles: Sequence[Image.Image]) -> Image.Image:
    """The tiles in rows of four, as one image."""
    page = Image.new("RGB", (COLUMNS * TILE, -(-len(tiles) // COLUMNS) * TILE))
    for place, tile in enumerate(tiles):
        page.paste(tile, (place % COLUMNS * TILE, place // COLUMNS * TILE))
    return page
