"""Outlines: the shapes of the scenes as closed curves.

Knows geometry. Does not know pixels, colours or scenes.
"""

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring")
TILT = {"circle": 0, "square": 12, "triangle": 20, "star": 20, "heart": 20, "cross": 16, "diamond": 12, "ring": 0}
"""The most that a shape is turned, in degrees; a square stays a square and a diamond a diamond."""
RING_HOLE = 0.56


def _turns(count: int, start: float = 0.0) -> np.ndarray:
    return start + np.arange(count) * (2 * np.pi / count)


def _around(angles: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """Points at these angles, 0 up and clockwise; y grows downwards."""
    return np.stack([radius * np.sin(angles), -radius * np.cos(angles)], 1)


def _heart() -> np.ndarray:
    t = _turns(60)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], 1)


_ARM = 0.34
_CURVES = {
    "circle": _around(_turns(72), 1.0),
    "ring": _around(_turns(72), 1.0),
    "square": _around(_turns(4, np.pi / 4), 1.0),
    "triangle": _around(_turns(3), 1.0),
    "star": _around(_turns(10), np.tile([1.0, 0.42], 5)),
    "heart": _heart(),
    "diamond": np.array([(0, -1), (0.66, 0), (0, 1), (-0.66, 0)]),
    "cross": np.array(
        [(-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)]
        + [(_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)]
    ),
}


def outline(kind: str, degrees: float) -> np.ndarray:
    """The corners (n, 2) of a shape of SHAPES turned clockwise; x and y start at 0 and the longer side is 1."""
    turn = np.deg2rad(degrees)
    x, y = _CURVES[kind].T
    return _framed(np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1))


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Points (n, 2) turned about the origin, clockwise where y points down."""
    a = np.deg2rad(degrees)
    return np.asarray(points @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]))


def blot(rng: np.random.Generator) -> np.ndarray:
    """A shape without a name, jagged or round, framed as by `outline`."""
    if rng.random() < 0.5:
        count = int(rng.integers(4, 12))
        angles, radius = _turns(count) + rng.uniform(-0.3, 0.3, count), rng.uniform(0.35, 1.0, count)
    else:
        angles, radius = _turns(60), np.ones(60)
        for waves in (1, 2, 3, 4):
            radius = radius + rng.uniform(0, 0.25) * np.cos(waves * angles + rng.uniform(0, 6))
    return _framed(_around(angles, radius) * (1, rng.uniform(0.5, 1)))


def _framed(points: np.ndarray) -> np.ndarray:
    points = points - points.min(0)
    return np.asarray(points / points.max())
