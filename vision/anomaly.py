"""Anomalies: the odd one out in a row of like parts, without training; with a few normal images, also what those never show.

Knows rows, patches and boxes. Does not know what the parts are, language or files.

Within an image each place of a row is compared with the places one and two periods away: a defect differs from them, while they
agree with each other. With normal images a memory of their patches is kept and each patch is compared with its nearest
neighbour there (PatchCore, Roth et al. 2022); patches are gradients and colours here, not a network's features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from vision.evidence import Heatmap
from vision.overlay import shown_size
from vision.periodic import PERIOD, REACH, Row, find_rows
from vision.search import Hit, merge

LONGEST = 512
MOST_HITS = 5
LARGEST = 0.05
"""The largest share of the image that a hit's box may cover."""

SLACK = (-3, 0, 3)
BLUR = 9.0
"""The spread, in the strip's pixels, over which differences are added up: about a part."""

PART = (2.8, 1.9)
"""A hit's box in periods, along the row and across it."""

LEAST = 0.02
"""Oddness below this is grain."""

PATCH = 8
MEMORY = 4096

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Inspection:
    """What is odd in an image: hits best first, a map, and how far the first stands out, 0 to 1; no `rows`: nothing repeats."""

    score: float
    hits: tuple[Hit, ...]
    heatmap: Heatmap
    rows: int

    def result(self, image: str | None = None) -> dict[str, object]:
        """What the API and the command line say about an inspection; the keys are a promise to others."""
        hits = [{"box": h.box.corners, "score": round(h.score, 4)} for h in self.hits]
        return {"image": image, "score": round(self.score, 4), "hits": hits, "repeating": self.rows > 0}


@dataclass(frozen=True)
class Memory:
    """Patches of normal images (n, d), and how far a normal patch lies from those of the other normal images."""

    patches: Floats
    usual: float


def inspect(image: Image.Image, memory: Memory | None = None) -> Inspection:
    """The odd places of all rows of like parts in an RGB image of any size; boxes in its pixels."""
    rows = find_rows(image)
    found: list[Hit] = []
    plain: list[Hit] = []
    values = np.zeros(shown_size(image.size, LONGEST)[::-1], np.float32)
    for row in rows:
        seen = features(row.strip(image))
        odd = oddness(seen)
        plain += _peaks(row, odd, image.size)
        if memory is not None:
            odd = odd * np.clip(_unfamiliar(seen, memory), 0.25, 4)
        _paint(values, row, odd, image.size)
        found += _peaks(row, odd, image.size)
    top = values.max()
    # The memory says which place is strange, but of a whole picture that it is another photograph: so not in the score.
    score = _stands_out([hit.score for hit in merge(plain)[:MOST_HITS]])
    return Inspection(score, tuple(merge(found)[:MOST_HITS]), Heatmap("odd", values / top if top > 0 else values), len(rows))


def _stands_out(scores: Sequence[float]) -> float:
    """0 to 1: the best score as a share of itself and the mean of the next ones; without a next one it stands alone."""
    if not scores:
        return 0.0
    return scores[0] / (scores[0] + sum(scores[1:MOST_HITS]) / (MOST_HITS - 1))


def features(strip: Floats) -> Floats:
    """(height, width, 3) in [0, 1] -> (height, width, 6): grey beside its surroundings, colour differences, gradients."""
    grey = strip.mean(2)
    spread = max(0.05, float(grey.std()))
    fine = (grey - ndimage.gaussian_filter(grey, 2 * PERIOD)) / spread
    dx, dy = ndimage.gaussian_filter(grey, 1.5, order=(0, 1)), ndimage.gaussian_filter(grey, 1.5, order=(1, 0))
    power = np.sqrt(dx * dx + dy * dy) + 1e-6
    weight = np.sqrt(power / spread) / power
    warm, cool = (strip[..., 0] - strip[..., 1]) / spread, (strip[..., 2] - strip[..., 1]) / spread
    return np.stack([fine, warm, cool, 3 * dx * weight, 3 * dy * weight, np.sqrt(power / spread)], 2).astype(np.float32)


def oddness(seen: Floats) -> Floats:
    """(height, width), of a strip's features: how much more a place differs from its neighbours than they from each other."""
    gaps = {(a, b): _difference(seen, a, b) for a, b in ((0, -1), (0, 1), (0, -2), (0, 2), (-1, 1), (-2, 2), (-2, 1), (-1, 2))}
    # The second smallest of each: a neighbour may be odd itself, and one pair of places may agree by chance.
    own = np.sort(np.stack([gaps[0, k] for k in (-1, 1, -2, 2)]), axis=0)[1]
    others = np.sort(np.stack([gaps[pair] for pair in ((-1, 1), (-2, 2), (-2, 1), (-1, 2))]), axis=0)[1]
    much = _energy(seen)
    energy = np.median(np.stack([_moved(much, k * PERIOD, 0) for k in (-2, -1, 1, 2)]), axis=0)
    # Two places of equal energy that have nothing in common differ by twice that energy: beside the row nothing is regular.
    regular = np.clip(1 - others / (2 * energy + 1e-6), 0, 1)
    odd = ((own - others) / max(1e-6, float(np.percentile(energy, 95)))).clip(min=0) * regular
    return np.asarray(odd, np.float32)


def _energy(seen: Floats) -> Floats:
    """(height, width): how much there is to see about each place: the features' variance over a part."""
    mean = np.stack([ndimage.gaussian_filter(seen[..., c], BLUR) for c in range(seen.shape[2])], 2)
    return np.asarray(ndimage.gaussian_filter(((seen - mean) ** 2).mean(2), BLUR))


def _difference(seen: Floats, one: int, other: int) -> Floats:
    """How much the places `one` and `other` periods away from each place differ, at the best small shift; edges repeat."""
    a = _moved(seen, one * PERIOD, 0)
    shifts = ((x, y) for x in SLACK for y in SLACK)
    gaps = (ndimage.gaussian_filter(((a - _moved(seen, other * PERIOD + x, y)) ** 2).mean(2), BLUR) for x, y in shifts)
    least = next(gaps)
    for gap in gaps:
        np.minimum(least, gap, out=least)
    return np.asarray(least)


def _moved(seen: Floats, x: int, y: int) -> Floats:
    """What stands x columns to the right and y rows below each place."""
    columns = np.clip(np.arange(seen.shape[1]) + x, 0, seen.shape[1] - 1)
    rows = np.clip(np.arange(seen.shape[0]) + y, 0, seen.shape[0] - 1)
    return np.asarray(seen[rows][:, columns])


def _peaks(row: Row, odd: Floats, image_size: tuple[int, int]) -> Iterator[Hit]:
    left = odd.copy()
    most = np.sqrt(LARGEST * image_size[0] * image_size[1] / (PART[0] * PART[1])) / (PERIOD * row.step)
    size = PART[0] * PERIOD * min(1.0, most * 0.7), PART[1] * PERIOD * min(1.0, most * 0.7)
    for _ in range(MOST_HITS):
        v, u = np.unravel_index(int(left.argmax()), left.shape)
        score = float(left[v, u])
        if score <= LEAST:
            return
        yield Hit(row.box(float(u), float(v), size, image_size), score)
        left[max(0, v - PERIOD) : v + PERIOD, max(0, u - 2 * PERIOD) : u + 2 * PERIOD] = 0


def _paint(values: Floats, row: Row, odd: Floats, image_size: tuple[int, int]) -> None:
    """Put a row's oddness onto the map, where it is higher than what stands there."""
    offsets = (np.arange(len(odd)) - REACH * PERIOD) * row.step
    points = row.axis[None] + offsets[:, None, None] * row.across
    x = np.clip(points[..., 0] * values.shape[1] / image_size[0], 0, values.shape[1] - 1).astype(int)
    y = np.clip(points[..., 1] * values.shape[0] / image_size[1], 0, values.shape[0] - 1).astype(int)
    np.maximum.at(values, (y, x), odd)


def remember(images: Sequence[Image.Image]) -> Memory | None:
    """A memory of the rows of normal images; None where nothing repeats in them.

    `usual` is the median distance of a patch from the nearest one of another image, or of its own where there is one only.
    """
    banks = [
        np.concatenate([_patches(features(row.strip(image))) for row in rows]) for image in images if (rows := find_rows(image))
    ]
    if not banks:
        return None
    rng = np.random.default_rng(0)
    least = [bank[rng.permutation(len(bank))[: MEMORY // len(banks)]] for bank in banks]
    usual = []
    for number, bank in enumerate(least):
        others = [other for other_number, other in enumerate(least) if other_number != number] or [bank[1::2]]
        usual.append(np.median(_nearest(bank[::2], np.concatenate(others))))
    return Memory(np.concatenate(least), float(np.median(usual)))


def _patches(seen: Floats) -> Floats:
    """(n, d): each PERIOD x PERIOD window, PATCH pixels apart, as means of its cells of PATCH x PATCH."""
    rows, columns = (length // PATCH for length in seen.shape[:2])
    cells = seen[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH, -1).mean((1, 3))
    side = PERIOD // PATCH
    windows = np.lib.stride_tricks.sliding_window_view(cells, (side, side), axis=(0, 1))
    return np.ascontiguousarray(windows.reshape(windows.shape[0] * windows.shape[1], -1))


def _nearest(patches: Floats, memory: Floats) -> Floats:
    """The distance of each patch to the nearest in memory."""
    squares = (memory**2).sum(1)
    parts = [patches[start : start + 512] for start in range(0, len(patches), 512)]
    gaps = [(part**2).sum(1) + (squares - 2 * part @ memory.T).min(1) for part in parts]
    return np.asarray(np.sqrt(np.maximum(np.concatenate(gaps), 0)))


def _unfamiliar(seen: Floats, memory: Memory) -> Floats:
    """(height, width): the distance of each place's patch to the nearest normal one, over what is usual."""
    rows, columns = (length // PATCH - PERIOD // PATCH + 1 for length in seen.shape[:2])
    away = _nearest(_patches(seen), memory.patches).reshape(rows, columns) / max(memory.usual, 1e-6)
    ys = np.clip((np.arange(seen.shape[0]) - PERIOD / 2) / PATCH, 0, rows - 1)
    xs = np.clip((np.arange(seen.shape[1]) - PERIOD / 2) / PATCH, 0, columns - 1)
    return np.asarray(ndimage.map_coordinates(away, np.meshgrid(ys, xs, indexing="ij"), order=1), np.float32)
