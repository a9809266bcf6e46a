"""Saliency: where in a film a label comes from, in closed form, and whether that map can be trusted.

Knows the feature maps of the classifier's last two stages, the film's grey values and fixed checks on both. Does not know
language, nor whether the label is called.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log2
from typing import Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from vision import burned_in
from vision.evidence import Heatmap, Mask, Peak, Side, Zone
from vision.lung_prior import GRID, Lungs, find_lungs
from vision.reference import Baseline, Floats, Limits, Reference
from vision.resnet import Classifier, Look
from vision.tiling import Box

Weights = NDArray[np.float32] | NDArray[np.float64]
Doubt = Literal["no_map", "empty", "border", "marker", "outside_lungs", "unstable"]
SHIFT = 0.02
"""How far the film is moved for the map's stability, as a part of its side."""
CORE = 0.8
"""The box of a peak holds what reaches this part of the maximum: at a half, a coarse map takes in both lungs."""
COARSE = 6
"""How often the last stage counts against the finer one before: the one says where, the other where in there. Counted less
often, the maxima are as near to what is pointed at, but gather in one place on films where much speaks for the label.
"""
UNSAID = 2.0 ** -(COARSE + 1)
NOTHING = Reference()
_EDGE = ceil(0.03 * GRID)
_ROUNDING = 1e-4  # of what a cell says: less than that over the reference is nothing


@dataclass(frozen=True)
class Saliency:
    """A map with what was found out about it. `shares` are the numbers behind `doubt`, by the names in `Limits`; `inside` is
    the share of the whole map's mass in the lungs of a segmenter, None without one.
    """

    heatmap: Heatmap | None
    trusted: bool
    doubt: Doubt | None
    peak: Peak | None
    shares: Mapping[str, float] = field(default_factory=dict)
    inside: float | None = None


def grad_cam(features: Floats, weights: Weights) -> Floats:
    """(channels, h, w) feature maps, (channels,) weights of the target -> (h, w) in [0, 1], zeros where nothing speaks for it.

    Grad-CAM (Selvaraju et al. 2017) at the last stage in closed form: behind global average pooling and one linear layer
    the gradient of the target is `weights / (h w)` everywhere, so the map is relu(sum_k w_k A_k) up to scale.
    """
    return _scaled(contrast(features, weights))


def contrast(features: Floats, weights: Weights) -> Floats:
    """(channels, h, w), (channels,) -> (h, w): what each cell adds to the target, h * w times; not finite counts as 0."""
    return np.asarray(np.nan_to_num(np.tensordot(weights, features, 1)), np.float32)


def target(classifier: Classifier, label: str) -> Weights | None:
    """(channels,) weights of `label`'s logit less the mean of the others'; None for a classifier without maps.

    What a softmax of two classes depends on is the difference of their logits: either alone holds what both share.
    """
    if classifier.head is None:
        return None
    head, index = classifier.head.astype(np.float64), classifier.labels.index(label)
    others = np.delete(head, index, 0)
    return np.asarray(head[index] - others.mean(0) if len(others) else head[index])


def fine_contrast(features: Floats, gradient: Floats) -> Floats:
    """(channels, h, w), twice -> (h, w): what each cell adds to the target where its gradient is this; not finite counts as 0.

    LayerCAM (Jiang et al. 2021), but for a gradient that is the mean over films: one film's is noise from cell to cell, and
    costs a second pass.
    """
    return np.asarray(np.nan_to_num((features * gradient).sum(0)), np.float32)


def explain(
    classifier: Classifier,
    image: Image.Image,
    look: Look,
    label: str,
    lungs: Sequence[Mask] = (),
    mirrored: Look | None = None,
    reference: Reference = NOTHING,
) -> Saliency:
    """The map of `label` on `image`, whose pass is the first of `look`, its trust checks and its peak. Costs one more pass.

    With a baseline in `reference` it is a geometric mean of what the last stage says over it and of how many standard
    deviations the finer one before does; without, what the last stage says. `mirrored` is the pass over the mirror image,
    averaged in when given; `lungs` are the patient's right and left one, guessed from grey values where they are not given.
    Raises ValueError for a label that the classifier does not have.
    """
    weights, pixels = target(classifier, label), look.pixels
    if weights is None or look.features is None or pixels is None:
        return Saliency(None, False, "no_map", None)
    base = reference.baselines.get(label)
    base = base if base and base.fits(look) else None
    said = read_stages(look, weights, base)
    both = [said] if mirrored is None else [said, [stage[:, ::-1] for stage in read_stages(mirrored, weights, base, side=1)]]
    stages = [np.asarray(np.mean(maps, 0), np.float32) for maps in zip(*both, strict=True)]
    heatmap = Heatmap(label, join(stages))
    if not heatmap.values.any():
        return Saliency(heatmap, False, "empty", None)
    down, right = (max(1, round(SHIFT * side)) for side in pixels.shape[2:])
    shifted = F.pad(pixels[:1, :, :-down, :-right], (right, 0, down, 0), mode="replicate")
    moved = _read_last(classifier.see(shifted, with_stages=False), weights, base, by=(down, right))
    cell, shift = GRID / look.features.shape[3], _correlation(said[0], moved)
    return _judge(heatmap, join(stages[:1]), image, lungs, cell, shift, reference.limits)


def read_stages(look: Look, weights: Weights, base: Baseline | None, side: int = 0) -> list[Floats]:
    """What speaks for the target in the first of `look`, as (GRID, GRID) maps over its pixels: the last stage's, and with a
    baseline, of whose two sides `side` is meant, that of the stage before.
    """
    last = _read_last(look, weights, base, side)
    if base is None or look.finer is None:
        return [last]
    finer = _beyond(fine_contrast(look.finer[0], base.gradient[side]), base.fine[side]) / base.spread[side]
    return [last, _laid(finer, look)]


def _read_last(look: Look, weights: Weights, base: Baseline | None, side: int = 0, by: tuple[int, int] = (0, 0)) -> Floats:
    """The first of `read_stages`, of an input that was moved `by` pixels."""
    assert look.features is not None
    cells = contrast(look.features[0], weights)
    return _laid(cells if base is None else _beyond(cells, base.coarse[side]), look, by)


def _beyond(said: Floats, usual: Floats) -> Floats:
    return np.where(np.abs(said - usual) > _ROUNDING * np.abs(said).max(), said - usual, np.float32(0))


def join(stages: Sequence[Floats]) -> Floats:
    """The geometric mean of the positive parts, in [0, 1]: the first, the last stage's, counts `COARSE` times, and is no more
    than halved where a finer one says nothing.
    """
    coarse, *finer = map(_scaled, stages)
    return _scaled((coarse**COARSE * np.maximum(finer[0], UNSAID)) ** (1 / (COARSE + 1))) if finer else coarse


def _judge(
    heatmap: Heatmap, coarse: Floats, image: Image.Image, lungs: Sequence[Mask], cell: float, shift: float, limits: Limits
) -> Saliency:
    """The checks on a map that is not empty, by what the last stage says, whose cells are of `cell` of the map's: what draws
    that one to it shows there more than where the finer one is highest.
    """
    squeezed = image.resize((burned_in.SIDE, burned_in.SIDE), Image.Resampling.BILINEAR, reducing_gap=2)
    grey = np.asarray(squeezed.convert("L"), np.float32) / np.float32(255)
    found = find_lungs(grey)
    halves = [_on_grid(mask) for mask in lungs]
    lungs_at = np.logical_or.reduce(halves) if halves else found.inside
    top, region = _about_the_top(heatmap.values, CORE)
    mass = np.where(_about_the_top(coarse, 0.5)[1], coarse, 0)
    shares = _shares(mass, found, burned_in.find_burned_in(grey), cell) | {"shift": shift}
    if halves:
        shares["outside_mask"] = float(mass[~lungs_at].sum() / mass.sum())
    doubt = find_doubt(shares, limits)
    peak = _peak(region, top, lungs_at, halves, image.size)
    inside = float(heatmap.values[lungs_at].sum() / heatmap.values.sum()) if halves else None
    return Saliency(heatmap, doubt is None, doubt, peak, shares, inside)


def _on_grid(mask: Mask) -> NDArray[np.bool_]:
    grey = Image.fromarray(mask.values.astype(np.uint8) * 255)
    return np.asarray(grey.resize((GRID, GRID), Image.Resampling.BOX)) > 127


def _about_the_top(values: Floats, level: float) -> tuple[tuple[int, int], NDArray[np.bool_]]:
    """Where a map is highest, and what is connected with it and reaches `level`."""
    row, column = divmod(int(values.argmax()), values.shape[1])
    parts = ndimage.label(values >= level)[0]
    return (row, column), np.asarray(parts == parts[row, column])


def _scaled(values: Floats) -> Floats:
    positive = np.maximum(values, 0)
    top = float(positive.max())
    return np.asarray(positive / top if top > 0 else positive, np.float32)


def _laid(values: Floats, look: Look, by: tuple[int, int] = (0, 0)) -> Floats:
    """(h, w) cells -> (GRID, GRID) over the pixels that `look` was given, which were moved `by` pixels.

    Every stride's window is centred on its first pixel, so cell i looks at pixel i * stride and not at the middle of a
    tile (Araujo et al. 2019): on 160 pixels plain scaling is off by a tenth of the film, right and down.
    """
    assert look.pixels is not None
    places = []
    for cells, pixels, move in zip(values.shape, look.pixels.shape[2:], by, strict=True):
        stride = 2 ** round(log2(pixels / cells))
        places.append(((np.arange(GRID) + 0.5) / GRID * pixels - 0.5 + move) / stride)
    rows, columns = np.meshgrid(*places, indexing="ij")
    return np.asarray(ndimage.map_coordinates(values, [rows, columns], order=1, mode="nearest"), np.float32)


def _shares(mass: Floats, lungs: Lungs, sharp: NDArray[np.bool_], cell: float) -> dict[str, float]:
    top, bottom, left, right = lungs.film
    border = np.ones((GRID, GRID), bool)
    border[top + _EDGE : bottom - _EDGE, left + _EDGE : right - _EDGE] = False
    things = sharp.reshape(GRID, sharp.shape[0] // GRID, GRID, sharp.shape[1] // GRID).any((1, 3))
    near = ndimage.distance_transform_edt(~things) <= cell / 2 if things.any() else things
    out = ndimage.distance_transform_edt(~lungs.inside) > max(cell / 2, _EDGE) if lungs.inside.any() else ~lungs.inside
    parts = {"border": border, "marker": near, "outside_lungs": out}
    return {name: float(mass[part].sum() / mass.sum()) for name, part in parts.items()}


def _correlation(one: Floats, other: Floats) -> float:
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def find_doubt(shares: Mapping[str, float], limits: Limits) -> Doubt | None:
    """What speaks against a map with these numbers; a segmenter's lungs count before those that were guessed."""
    if shares["border"] > limits.border:
        return "border"
    if shares["marker"] > limits.marker:
        return "marker"
    lungs = "outside_mask" if "outside_mask" in shares else "outside_lungs"
    if shares[lungs] > getattr(limits, lungs):
        return "outside_lungs"
    return "unstable" if shares["shift"] < limits.shift else None


def _peak(
    region: NDArray[np.bool_],
    top: tuple[int, int],
    lungs: NDArray[np.bool_],
    halves: Sequence[NDArray[np.bool_]],
    size: tuple[int, int],
) -> Peak:
    """The side is that of the nearer of two `halves`, the patient's right and left lung, else of the half of the lungs' box,
    where what is left on the image is the patient's right; the zones are thirds of that box.
    """
    (upper, lower), (first, last) = _ends(lungs) if lungs.any() else ((0, GRID), (0, GRID))
    is_right = top[1] + 0.5 < (first + last) / 2
    if len(halves) == 2 and all(half.any() for half in halves):
        right, left = (float(ndimage.distance_transform_edt(~half)[top]) for half in halves)
        is_right = right < left
    side: Side = "right" if is_right else "left"
    third = 3 * (top[0] + 0.5 - upper) / (lower - upper)
    zone: Zone = "upper" if third < 1 else "middle" if third < 2 else "lower"
    (upper, lower), (first, last) = _ends(region)
    width, height = size[0] / GRID, size[1] / GRID
    return Peak(side, zone, Box(floor(first * width), floor(upper * height), ceil(last * width), ceil(lower * height)))


def _ends(region: NDArray[np.bool_]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first, last + 1) of the rows, then of the columns, that hold something."""
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)
