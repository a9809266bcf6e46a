"""Periodic: rows of like parts in a picture, such as an insulator's discs, found by the lag at which they repeat.

Knows pixels, lags and lines. Does not know what a defect is, models or files.

The lag of each window is the peak of its autocorrelation that also repeats at twice the lag and not halfway between, which is
how a row of things differs from a beam, a grass field or noise. Windows that agree on a lag and lie along it form a row; the
row is then resampled so that its axis is horizontal and every part has `PERIOD` pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from vision.overlay import shown_size
from vision.tiling import Box

WINDOW, STRIDE = 128, 32
SHORTEST, LONGEST = 12, 36
"""Lags in pixels of the picture as it is looked at; coarser scales find what repeats more widely."""

WORKING = (1152, 576)
"""The longer side at which rows are looked for."""

PERIOD = 32
REACH = 3.0
"""How far from its axis a row is looked at, in periods."""

STRONG, WEAK = 1.1, 0.5
FAINTEST = 4.0
"""The least spread of grey levels, beside what is broad and soft, of a window that may repeat."""

FEWEST = 6
"""A row has so many periods, or there is nothing to compare with."""

MOST_ROWS = 4
LEAST = 4.0
"""The strength of a row worth the name; and beside a strong one, half as strong as that."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """A row of like parts: points of its axis in the image's pixels, in steps of a period / PERIOD, and how regular it is.

    `across` is the unit vector that stands on the axis.
    """

    axis: NDArray[np.float64]
    across: NDArray[np.float64]
    strength: float

    @property
    def step(self) -> float:
        """Pixels of the image per pixel of the strip."""
        return float(np.linalg.norm(np.diff(self.axis, axis=0), axis=1).mean())

    def strip(self, image: Image.Image) -> Floats:
        """(height, width, 3) in [0, 1]: the row with its axis horizontal in the middle, every part PERIOD wide."""
        offsets = np.arange(-int(REACH * PERIOD), int(REACH * PERIOD) + 1) * self.step
        points = self.axis[None] + offsets[:, None, None] * self.across
        low = np.maximum(np.floor(points.min((0, 1))).astype(int) - 2, 0)
        high = np.minimum(np.ceil(points.max((0, 1))).astype(int) + 3, image.size)
        # No finer than the strip: a row across a very large picture costs no more than one across a small one.
        size = np.maximum(np.rint((high - low) / max(1.0, self.step)).astype(int), 1)
        box = (*low.tolist(), *high.tolist())
        part = image.resize((int(size[0]), int(size[1])), Image.Resampling.BOX, box=box, reducing_gap=2)
        pixels = np.asarray(part.convert("RGB"), np.float32) / np.float32(255)
        x, y = ((points[..., i] - low[i]) * size[i] / (high[i] - low[i]) - 0.5 for i in (0, 1))
        return np.stack([ndimage.map_coordinates(pixels[..., c], [y, x], order=1, mode="nearest") for c in range(3)], 2)

    def box(self, u: float, v: float, size: tuple[float, float], image_size: tuple[int, int]) -> Box:
        """The upright box, in the image, of a box of `size` in the strip centred at column `u` and row `v`."""
        at = int(np.clip(round(u), 0, len(self.axis) - 1))
        along = self.axis[min(at + 1, len(self.axis) - 1)] - self.axis[max(at - 1, 0)]
        along /= np.linalg.norm(along)
        x, y = self.axis[at] + (v - REACH * PERIOD) * self.step * self.across
        half = self.step / 2 * (size[0] * np.abs(along) + size[1] * np.abs(self.across))
        box = Box(int(x - half[0]), int(y - half[1]), int(np.ceil(x + half[0])), int(np.ceil(y + half[1])))
        x, y = np.clip((x, y), 0, np.subtract(image_size, 1))
        return Box(
            min(box.left, int(x)), min(box.top, int(y)), max(box.right, int(x) + 1), max(box.bottom, int(y) + 1)
        ).clipped(image_size)


@cache
def _lags() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ys, xs = np.mgrid[0 : LONGEST + 1, -LONGEST : LONGEST + 1]
    far = np.hypot(ys, xs)
    kept = (far >= SHORTEST) & (far <= LONGEST) & ((ys > 0) | (xs > 0))
    return ys[kept], xs[kept]


def repetition(grey: Floats) -> Floats:
    """(rows, columns, 3): how strongly each window repeats, and its lag (x, y); `grey` (height, width) has no broad shades."""
    taper = np.hanning(WINDOW + 2)[1:-1]
    window = np.outer(taper, taper).astype(np.float32)
    size = (2 * WINDOW, 2 * WINDOW)
    own = fft.irfft2(np.abs(fft.rfft2(window, size)) ** 2, size)
    own = np.maximum(own, own.max() * 0.02)
    ys, xs = _lags()
    tops = range(0, grey.shape[0] - WINDOW + 1, STRIDE)
    lefts = range(0, grey.shape[1] - WINDOW + 1, STRIDE)
    found = np.zeros((len(tops), len(lefts), 3), np.float32)
    for i, top in enumerate(tops):
        cut = np.stack([grey[top : top + WINDOW, left : left + WINDOW] for left in lefts])
        cut = (cut - cut.mean((1, 2), keepdims=True)) * window
        spread = np.sqrt((cut**2).sum((1, 2)) / (window**2).sum())
        power = fft.irfft2(np.abs(fft.rfft2(cut, size)) ** 2, size) / own
        power = np.clip(power / np.maximum(power[:, :1, :1], 1e-6), -1, 1)

        def at(times: float, power: Floats = power) -> Floats:
            return power[:, np.rint(ys * times).astype(int), np.rint(xs * times).astype(int)]

        comb = at(1) + 0.7 * at(2) - at(0.5) - 0.7 * at(1.5)
        best = comb.argmax(1)
        strength = comb.max(1) * (spread >= FAINTEST)
        strength[np.hypot(xs[best], ys[best]) > LONGEST - 2] = 0  # a peak at the edge of what was searched is none
        found[i] = np.stack([strength, xs[best], ys[best]], 1)
    return found


def find_rows(image: Image.Image) -> list[Row]:
    """Rows of like parts, the most regular first; none in a picture where nothing repeats."""
    rows: list[Row] = []
    for longest in WORKING:
        scale = min(1.0, longest / max(image.size))
        size = shown_size(image.size, longest)
        if min(size) < WINDOW:
            continue
        grey = np.asarray(image.resize(size, Image.Resampling.BOX, reducing_gap=2).convert("L"), np.float32)
        grey -= ndimage.gaussian_filter(grey, 15)
        rows += [Row(r.axis / scale, r.across, r.strength) for r in _group(repetition(grey), size)]
        if scale == 1:
            break
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: -row.strength):
        if not any(_overlap(row, other) for other in kept):
            kept.append(row)
    return [row for row in kept if row.strength >= max(LEAST, kept[0].strength / 2)][:MOST_ROWS]


def _overlap(one: Row, other: Row) -> bool:
    """Whether half of one row's axis lies within a period and a half of the other's."""
    away = np.linalg.norm(one.axis[::PERIOD, None] - other.axis[None, ::8], axis=2).min(1)
    return bool((away < 1.5 * PERIOD * max(one.step, other.step)).mean() > 0.5)


def _group(found: Floats, size: tuple[int, int]) -> list[Row]:
    """Windows that agree with the strongest one and lie along its lag, until none is left that is strong."""
    strength, left = found[..., 0].copy(), []
    ys, xs = np.mgrid[: strength.shape[0], : strength.shape[1]] * STRIDE + WINDOW / 2
    for _ in range(3 * MOST_ROWS):
        seed = np.unravel_index(int(strength.argmax()), strength.shape)
        if strength[seed] < STRONG:
            break
        lag = found[seed][1:]
        unit = lag / np.linalg.norm(lag)
        dx, dy = xs - xs[seed], ys - ys[seed]
        along, away = dx * unit[0] + dy * unit[1], np.abs(dy * unit[0] - dx * unit[1])
        same = np.linalg.norm(found[..., 1:] - lag, axis=2)
        same = np.minimum(same, np.linalg.norm(found[..., 1:] + lag, axis=2)) < 0.25 * np.linalg.norm(lag)
        near = away < 0.12 * np.abs(along) + WINDOW / 2
        member = same & near & (strength >= WEAK)
        member = _connected(member, seed)
        row = _axis(xs[member], ys[member], found[..., 1:][member], strength[member], size)
        if row is not None:
            left.append(row)
        strength[member | (near & (np.abs(along) < WINDOW / 2))] = 0
    return left


def _connected(member: NDArray[np.bool_], seed: Sequence[np.intp]) -> NDArray[np.bool_]:
    """The members that hang together with the seed over gaps of up to three windows."""
    labels, _ = ndimage.label(ndimage.binary_dilation(member, np.ones((3, 3)), iterations=2), np.ones((3, 3)))
    return np.asarray(member & (labels == labels[tuple(seed)]))


def _axis(xs: NDArray[np.float64], ys: NDArray[np.float64], lags: Floats, weights: Floats, size: tuple[int, int]) -> Row | None:
    """A line through the windows, along their lags, walked in steps of the period at each place."""
    signs = np.sign(lags @ lags[weights.argmax()])
    lags = lags * signs[:, None]
    unit = np.average(lags, axis=0, weights=weights)
    unit = unit / np.linalg.norm(unit)
    middle = np.array([np.average(xs, weights=weights), np.average(ys, weights=weights)])
    along = (xs - middle[0]) * unit[0] + (ys - middle[1]) * unit[1]
    away = (ys - middle[1]) * unit[0] - (xs - middle[0]) * unit[1]
    periods = np.linalg.norm(lags, axis=1)
    period = float(np.average(periods, weights=weights))
    start, end = along.min() - WINDOW / 2, along.max() + WINDOW / 2
    if (end - start) < FEWEST * period or len(xs) < 3:
        return None
    # The direction comes from where the windows lie once there are many; from one row of them it would be the grid's.
    slope = float(np.polyfit(along, away, 1, w=weights)[0]) if np.ptp(along) > 6 * STRIDE else 0.0
    slope = float(np.clip(slope, -0.2, 0.2))
    drift = float(np.polyfit(along, periods, 1, w=weights)[0]) if np.ptp(along) > 6 * STRIDE else 0.0
    positions = [float(start)]
    while positions[-1] < end:
        local = np.clip(period + drift * positions[-1], 0.7 * period, 1.4 * period)
        positions.append(positions[-1] + local / PERIOD)
    t = np.array(positions)
    across = np.array([-unit[1], unit[0]])
    axis = middle + t[:, None] * unit + (slope * t)[:, None] * across
    inside = ((axis >= 0) & (axis < np.array(size))).all(1)
    if inside.sum() < FEWEST * PERIOD:
        return None
    return Row(axis[inside], across, float(weights.sum() / np.sqrt(len(weights))))
