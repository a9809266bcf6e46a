"""Lungs: where the lungs of a frontal chest film are likely to be, from its grey values alone.

Knows grey pixels and the mean shape of lungs. Does not know models; a segmenter's mask is better where there is one.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

GRID = 64
"""Cells a side of the square grid, laid over the whole film, that `find_lungs` answers on."""

_COARSE = 32
_LUNGS = (((0.298, 0.493), (0.0839, 0.1834, -0.0059)), ((0.695, 0.509), (0.0840, 0.1911, 0.0056)))
"""Centre (x, y) and standard deviations with the covariance of each lung's area, in parts of the film: the means over the
582 masks of V7's covid-19-xray-dataset on films of the training part."""

_SHIFTS_X, _SHIFTS_Y = np.arange(-2, 3) * 0.04, np.arange(-4, 5) * 0.04
_SCALES_X, _SCALES_Y = np.arange(8, 13) / 10, np.arange(6, 13) / 10
_SPREAD = np.array([0.04, 0.06, 0.12, 0.15], np.float32)
_PULL = 0.05  # towards the mean pose; of 0 to 0.08 the best Dice on the training part's masks
_DARKNESS = 0.6  # what a cell's rank of grey counts beside its place; of 0 to 1.5 the best Dice there
_PLAIN = 0.02  # spread of grey, of the film's range, below which a line at the edge is padding

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Lungs:
    """`inside`: bool (GRID, GRID) over the whole film; `film`: the (top, bottom, left, right) cells that are not padding."""

    inside: NDArray[np.bool_]
    film: tuple[int, int, int, int]


def find_lungs(grey: Floats) -> Lungs:
    """The likely lungs of a film given as (h, w) grey values in [0, 1], squeezed to any size of at least `GRID` a side.

    Two ellipses of the mean lungs' shape are moved and scaled to where the film is dark inside and bright around them, by
    the ranks of its grey values, so contrast and gamma do not matter; then dark cells around them are added: what is
    bright inside may be disease, and stays. Padding is left out first. A film without contrast gets the mean lungs.
    """
    cells = ndimage.zoom(grey, (GRID / grey.shape[0], GRID / grey.shape[1]), order=1, grid_mode=True, mode="nearest")
    top, bottom, left, right = film = _unpadded(cells)
    rows, columns = (bottom - top, right - left)
    part = _ranks(_resized(cells[top:bottom, left:right], GRID))
    poses, templates, penalty = _templates()
    coarse = part.reshape(_COARSE, GRID // _COARSE, _COARSE, GRID // _COARSE).mean((1, 3))
    pose = poses[int(np.argmax(templates @ coarse.ravel() / max(float(coarse.std()), 1e-6) - penalty))]
    away = _ellipses(pose[None], GRID)[0]
    rim = (away >= 1) & (away < 1.35)
    middle = (part[away < 1].mean() + part[rim].mean()) / 2
    darkness = _DARKNESS * (middle - ndimage.gaussian_filter(part, 1))
    inside = (away < 1) | ((away < 1.5) & (away < 1 + darkness))
    whole = np.zeros((GRID, GRID), bool)
    whole[top:bottom, left:right] = (
        ndimage.zoom(inside.astype(np.float32), (rows / GRID, columns / GRID), order=1, grid_mode=True, mode="nearest") > 0.5
    )
    return Lungs(whole, film)


def _resized(values: Floats, side: int) -> Floats:
    scale = (side / values.shape[0], side / values.shape[1])
    return np.asarray(ndimage.zoom(values, scale, order=1, grid_mode=True, mode="nearest"), np.float32)


def _unpadded(cells: Floats) -> tuple[int, int, int, int]:
    """The (top, bottom, left, right) without the lines at the edge that are of one grey; all when less than half is left."""
    ends = []
    for axis in (1, 0):
        lively = np.flatnonzero(cells.std(axis) > _PLAIN * float(np.ptp(np.percentile(cells, (1, 99)))))
        low, high = (int(lively[0]), int(lively[-1]) + 1) if lively.size else (0, GRID)
        ends += [low, high] if high - low >= GRID // 2 else [0, GRID]
    return ends[0], ends[1], ends[2], ends[3]


def _ranks(values: Floats) -> Floats:
    """Each value's rank among all, 0 to 1; equal values share one."""
    levels, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / values.size
    return ranks[place].reshape(values.shape).astype(np.float32) if len(levels) > 1 else np.full_like(values, 0.5)


def _ellipses(poses: Floats, side: int) -> Floats:
    """(n, 4) shifts and scales -> (n, side, side) distances from the nearer lung's centre, 1 on its outline."""
    along = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    x0 = (along - poses[:, :1]) / poses[:, 2:3]
    y0 = (along - poses[:, 1:2]) / poses[:, 3:4]
    nearest = np.full((len(poses), side, side), np.inf, np.float32)
    for (centre_x, centre_y), (sd_x, sd_y, both) in _LUNGS:
        x, y = (x0 - (centre_x - 0.5))[:, None, :], (y0 - (centre_y - 0.5))[:, :, None]
        form = (sd_y**2 * x**2 - 2 * both * x * y + sd_x**2 * y**2) / (sd_x**2 * sd_y**2 - both**2)
        np.minimum(nearest, np.sqrt(form) / 2, out=nearest)
    return nearest


@functools.cache
def _templates() -> tuple[Floats, Floats, Floats]:
    """(n, 4) poses, the mean pose first; (n, cells) weights, the rim's mean less the inside's; (n,) penalties."""
    mesh = np.meshgrid(_SHIFTS_X, _SHIFTS_Y, _SCALES_X, _SCALES_Y, indexing="ij")
    poses = np.stack([axis.ravel() for axis in mesh], 1).astype(np.float32)
    penalty = _PULL * (((poses - (0, 0, 1, 1)) / _SPREAD) ** 2).sum(1)
    order = np.argsort(penalty, kind="stable")
    away = _ellipses(poses[order], _COARSE).reshape(len(poses), -1)
    inside, rim = away < 1, (away >= 1) & (away < 1.35)
    weights = rim / rim.sum(1, keepdims=True) - inside / inside.sum(1, keepdims=True)
    return poses[order], weights.astype(np.float32), penalty[order].astype(np.float32)
