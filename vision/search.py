"""Search: which parts of a very large image are worth a look, and what was found there.

Knows boxes, pixels and colours. Does not know models, language or when to believe a hit.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from PIL import Image
from scipy import ndimage

from vision.tiling import Box, cut, plan_tiles

OVERLAP = 0.36
"""Of 336 pixels: what has up to 120 stands whole in some of the finest tiles."""

SCALES = 3
BLANK = 6
"""The most levels between the darkest and the brightest pixel of a tile that shows nothing."""

CHANGE = 24
"""Grey levels between neighbouring pixels from which on a ground is no longer plain."""

LEAST_COLOUR = 32
"""Levels between the channels of a pixel from which on it is no grey."""

SHRUNK = 2048
"""Colours are looked for in the image shrunk to this side, which leaves a thing of 30 pixels in 12,000 five of them."""


@dataclass(frozen=True)
class Hit:
    """Something that was found: its box in the image's pixels, and how sure that is, 0 to 1."""

    box: Box
    score: float


def plan_search(image_size: tuple[int, int], side: int) -> list[list[Box]]:
    """Tiles of one, two and four times `side` pixels that cover an image of (width, height), the finest first.

    A scale whose only tile is the whole image is the last one.
    """
    scales: list[list[Box]] = []
    for step in range(SCALES):
        scales.append(list(plan_tiles(image_size, side << step, OVERLAP)))
        if len(scales[-1]) == 1:
            break
    return scales


def distinct(image: Image.Image, boxes: Sequence[Box]) -> Iterator[Box]:
    """The boxes without those that show, pixel for pixel, what an earlier one shows; one stands for all that are blank."""
    seen: set[bytes | str] = set()
    for box in boxes:
        tile = cut(image, box).image
        spans = [high - low for low, high in _extrema(tile)]
        key = "blank" if max(spans) <= BLANK else hashlib.blake2b(repr(tile.size).encode() + tile.tobytes()).digest()
        if key not in seen:
            seen.add(key)
            yield box


def _extrema(tile: Image.Image) -> Sequence[tuple[int, int]]:
    found = tile.convert("RGB").getextrema()
    return [(int(low), int(high)) for low, high in found]  # type: ignore[misc]


def detail(image: Image.Image, boxes: Sequence[Box]) -> list[float]:
    """How much there is to see in each box: the mean difference of neighbouring pixels, in grey levels."""
    scale = min(1.0, SHRUNK / max(image.size))
    size = max(2, round(image.width * scale)), max(2, round(image.height * scale))
    grey = np.asarray(image.resize(size, Image.Resampling.BOX, reducing_gap=2).convert("L"), np.float32)
    change = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    total = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    x, y = change.shape[1] / image.width, change.shape[0] / image.height
    found = []
    for box in boxes:
        left, top = int(box.left * x), int(box.top * y)
        right, bottom = max(left + 1, ceil(box.right * x)), max(top + 1, ceil(box.bottom * y))
        right, bottom = min(right, change.shape[1]), min(bottom, change.shape[0])
        summed = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        found.append(float(summed) / max(1, (right - left) * (bottom - top)))
    return found


def find_colour(
    image: Image.Image,
    colour: tuple[int, int, int],
    others: Sequence[tuple[int, int, int]],
    smallest: int = 12,
    filled: float | None = None,
) -> list[Hit]:
    """Connected patches whose pixels are nearer to `colour` than to each of `others`, the best first.

    The score is the share of the patch's box that has the colour, times its nearness; or, where a thing of the wanted shape
    would have `filled` so much of its box, how near the share comes to that. Patches under `smallest` pixels or above a third
    of the image are none.
    """
    pixels = _shrunk(image)
    away = _distance(pixels, colour)
    is_nearest = away < 110
    for other in others:
        is_nearest[is_nearest] = away[is_nearest] <= _distance(pixels[is_nearest], other)
    found = _patches(image, ndimage.binary_opening(is_nearest), 1 - away / 220, smallest)
    if filled is None:
        hits = [Hit(box, share * worth) for box, share, worth in found]
    else:
        hits = [Hit(box, min(share, filled) / max(share, filled)) for box, share, _ in found]
    return sorted(hits, key=lambda hit: -hit.score)


def find_things(image: Image.Image, smallest: int = 12) -> list[Hit]:
    """What stands apart on a plain ground: connected places whose pixels change, those with most change first.

    None where the ground is not plain, as in most photographs.
    """
    pixels = _shrunk(image)
    change = np.zeros(pixels.shape[:2], np.float32)
    for axis in (0, 1):
        step = np.abs(np.diff(pixels, axis=axis)).max(2)
        change += np.pad(step, [(0, int(axis == side)) for side in (0, 1)])
    things = ndimage.binary_closing(change > CHANGE, iterations=3)
    if things.all() or np.percentile(change[~things], 95) > CHANGE / 2:
        return []
    found = _patches(image, things, change / 510, smallest)
    return sorted((Hit(box, share * worth) for box, share, worth in found), key=lambda hit: -hit.score)


def _shrunk(image: Image.Image) -> np.ndarray:
    scale = min(1.0, SHRUNK / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return np.asarray(image.resize(size, Image.Resampling.BOX, reducing_gap=2).convert("RGB"), np.int16)


def has_colour(image: Image.Image) -> bool:
    """Whether any of it is not grey."""
    return bool(np.ptp(_shrunk(image), axis=2).max() >= LEAST_COLOUR)


def _patches(image: Image.Image, mask: np.ndarray, worth: np.ndarray, smallest: int) -> Iterator[tuple[Box, float, float]]:
    """The connected parts of (h, w): a box in the image's pixels, the share of it that is filled, and the mean worth there."""
    labels, _ = ndimage.label(mask)
    x, y = image.width / mask.shape[1], image.height / mask.shape[0]
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = place
        height, width = (rows.stop - rows.start) * y, (columns.stop - columns.start) * x
        if max(height, width) < smallest or (height > image.height / 3 and width > image.width / 3):
            continue
        inside = labels[place] == number
        box = Box(int(columns.start * x), int(rows.start * y), ceil(columns.stop * x), ceil(rows.stop * y))
        yield box.clipped(image.size), float(inside.mean()), float(worth[place][inside].mean())


def _distance(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(np.sqrt(((pixels - np.array(colour, np.int16)).astype(np.float32) ** 2).sum(-1)))


def zoomed(box: Box, factor: float, image_size: tuple[int, int], least: int = 32) -> Box:
    """A square about the centre of `box`, `factor` times as long as its longer side, moved and cut to fit the image."""
    length = min(max(least, ceil(factor * max(box.size))), max(image_size))
    starts = []
    for low, high, whole in ((box.left, box.right, image_size[0]), (box.top, box.bottom, image_size[1])):
        starts.append(max(0, min((low + high - length) // 2, whole - length)))
    return Box(starts[0], starts[1], starts[0] + length, starts[1] + length).clipped(image_size)


def merge(hits: Sequence[Hit], least: float = 0.2) -> list[Hit]:
    """The hits best first, each without those that share `least` of the smaller one's area with a better one."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: -hit.score):
        if all(shared(hit.box, other.box) < least for other in kept):
            kept.append(hit)
    return kept


def shared(one: Box, other: Box) -> float:
    """The common area as a share of the smaller box."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    areas = [box.size[0] * box.size[1] for box in (one, other)]
    return max(0, width) * max(0, height) / min(areas)
