"""Saliency: where in a film a label comes from, in closed form, and whether that map can be trusted.

Knows the classifier's last feature maps, the film's grey values and fixed checks on both. Does not know language, nor
whether the label is called.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, floor, log2
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from vision import burned_in
from vision.evidence import CheckpointError, Heatmap, Mask, Peak, Side, Zone
from vision.lung_prior import GRID, Lungs, find_lungs
from vision.resnet import Classifier, Look, digest
from vision.tiling import Box

Floats = NDArray[np.float32]
Weights = NDArray[np.float32] | NDArray[np.float64]
Doubt = Literal["no_map", "empty", "border", "marker", "outside_lungs", "unstable"]
FACTS = "saliency.json"
SHIFT = 0.02
"""How far the film is moved for the map's stability, as a part of its side."""
CORE = 0.8
"""The box of a peak holds what reaches this part of the maximum: at a half, a coarse map takes in both lungs."""
_EDGE = ceil(0.03 * GRID)
_ROUNDING = 1e-4  # of what a cell says: less than that over the reference is nothing


@dataclass(frozen=True)
class Limits:
    """What the numbers of a map may be. `python -m finetune.reference` sets them so that each check loses 2 to 4 % of the
    called films of the validation part; the defaults, for a classifier without its file, are about what it gave for the first.

    Shares are of the mass of the peak, the region of at least half of the maximum around it. `border`: on padding or within
    3 % of the film's edge. `marker`: within half a cell of something burned in. `outside_lungs`: off the lungs that grey values
    suggest by half a cell and by 3 % of the film; `outside_mask`: off a segmenter's, in its place where there is one.
    `shift`: least correlation of the map with that of the film moved by 2 %.
    """

    border: float = 0.1
    marker: float = 0.2
    outside_lungs: float = 0.35
    shift: float = 0.9
    outside_mask: float = 0.65


@dataclass(frozen=True)
class Reference:
    """What a map is read against: per label, float32 (2, h, w), the mean map of training films without the label, as they
    are and mirrored; and the limits that fit this classifier.

    A cell then says how much more it speaks for the label than the same place of such films does (difference from a
    reference, as in DeepLIFT, Shrikumar et al. 2017, at the last stage): without it the ever-same background decides where
    the map is highest.
    """

    maps: Mapping[str, Floats] = field(default_factory=dict)
    limits: Limits = Limits()

    @classmethod
    def load(cls, folder: Path, weights: str | None = None) -> "Reference":
        """The reference beside a classifier's weights, whose `digest` may be given; an empty one where there is none.

        Raises CheckpointError when it is damaged, or was made with other weights than those beside it.
        """
        if not (folder / FACTS).exists():
            return cls()
        again = f"Run python -m finetune.reference --model {folder.name} again."
        try:
            facts = json.loads((folder / FACTS).read_text("utf-8"))
            maps = {str(label): np.array(values, np.float32) for label, values in facts["maps"].items()}
            limits = Limits(**{name: float(value) for name, value in facts["limits"].items()})
            fitted_to = facts["classifier"]
            if any(values.ndim != 3 or len(values) != 2 or not np.isfinite(values).all() for values in maps.values()):
                raise ValueError("not (2, h, w) numbers")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"The saliency reference in {folder.name} cannot be read. {again}") from error
        if fitted_to != (weights or digest(folder)):
            raise CheckpointError(f"The saliency reference in {folder.name} was made with another classifier. {again}")
        return cls(maps, limits)

    def save(self, folder: Path) -> None:
        """Write it beside the weights that it was made with."""
        maps = {label: np.round(values.astype(float), 4).tolist() for label, values in self.maps.items()}
        facts = {"classifier": digest(folder), "limits": asdict(self.limits), "maps": maps}
        (folder / FACTS).write_text(json.dumps(facts) + "\n", "utf-8")


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


def explain(
    classifier: Classifier,
    image: Image.Image,
    look: Look,
    label: str,
    lungs: Sequence[Mask] = (),
    mirrored: Look | None = None,
    reference: Reference = Reference(),
) -> Saliency:
    """The map of `label` on `image`, whose pass is the first of `look`, its trust checks and its peak. Costs one more pass.

    `mirrored` is the pass over the mirror image, averaged in when given; `lungs` are the patient's right and left one, guessed
    from grey values where they are not given.
    Raises ValueError for a label that the classifier does not have.
    """
    weights = target(classifier, label)
    pixels = look.pixels
    if weights is None or look.features is None or pixels is None:
        return Saliency(None, False, "no_map", None)
    cells = look.features.shape[2:]
    base: Floats | None = reference.maps.get(label)
    if base is None or base.shape[1:] != cells:
        base = np.zeros((2, *cells), np.float32)
    size = (int(pixels.shape[2]), int(pixels.shape[3]))
    said = contrast(look.features[0], weights)
    plain = whole = _laid(said - base[0], size)
    if mirrored is not None and mirrored.features is not None:
        whole = np.float32(0.5) * (plain + _laid(contrast(mirrored.features[0], weights) - base[1], size)[:, ::-1])
    heatmap = Heatmap(label, _scaled(np.where(whole > _ROUNDING * np.abs(said).max(), whole, 0)))
    if not heatmap.values.any():
        return Saliency(heatmap, False, "empty", None)
    down, right = (max(1, round(SHIFT * side)) for side in size)
    shifted = F.pad(pixels[:1, :, :-down, :-right], (right, 0, down, 0), mode="replicate")
    moved = classifier.see(shifted, with_stages=False)
    again = _laid(contrast(cast(Floats, moved.features)[0], weights) - base[0], size, (down, right))
    return _judge(heatmap, image, lungs, GRID / cells[1], _correlation(plain, again), reference.limits)


def _judge(heatmap: Heatmap, image: Image.Image, lungs: Sequence[Mask], cell: float, shift: float, limits: Limits) -> Saliency:
    """The checks on a map that is not empty; `cell` is the classifier's, in those of the map."""
    squeezed = image.resize((burned_in.SIDE, burned_in.SIDE), Image.Resampling.BILINEAR, reducing_gap=2)
    grey = np.asarray(squeezed.convert("L"), np.float32) / np.float32(255)
    found = find_lungs(grey)
    halves = [_on_grid(mask) for mask in lungs]
    lungs_at = np.logical_or.reduce(halves) if halves else found.inside
    top = np.unravel_index(int(heatmap.values.argmax()), heatmap.values.shape)
    region, core = (_connected(heatmap.values >= level, top) for level in (0.5, CORE))
    mass = np.where(region, heatmap.values, 0)
    shares = _shares(mass, found, burned_in.find_burned_in(grey), cell) | {"shift": shift}
    if halves:
        shares["outside_mask"] = float(mass[~lungs_at].sum() / mass.sum())
    doubt = find_doubt(shares, limits)
    peak = _peak(core, (int(top[0]), int(top[1])), lungs_at, halves, image.size)
    inside = float(heatmap.values[lungs_at].sum() / heatmap.values.sum()) if halves else None
    return Saliency(heatmap, doubt is None, doubt, peak, shares, inside)


def _on_grid(mask: Mask) -> NDArray[np.bool_]:
    grey = Image.fromarray(mask.values.astype(np.uint8) * 255)
    return np.asarray(grey.resize((GRID, GRID), Image.Resampling.BOX)) > 127


def _connected(above: NDArray[np.bool_], top: tuple[np.intp, ...]) -> NDArray[np.bool_]:
    parts = ndimage.label(above)[0]
    return np.asarray(parts == parts[top])


def _scaled(values: Floats) -> Floats:
    positive = np.maximum(values, 0)
    top = float(positive.max())
    return np.asarray(positive / top if top > 0 else positive, np.float32)


def _laid(values: Floats, size: tuple[int, int], by: tuple[int, int] = (0, 0)) -> Floats:
    """(h, w) cells of an input of (height, width) pixels -> (GRID, GRID) over that input, which was moved `by` pixels.

    Every stride's window is centred on its first pixel, so cell i looks at pixel i * stride and not at the middle of a
    tile (Araujo et al. 2019): on 160 pixels plain scaling is off by a tenth of the film, right and down.
    """
    places = []
    for cells, pixels, move in zip(values.shape, size, by, strict=True):
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
