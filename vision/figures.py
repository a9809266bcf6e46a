"""Figures: the simplest pictures with a known truth, one coloured shape on a plain ground.

Knows pixels. Does not know what is asked about them, or models. Made to measure with, not to learn from.
"""

from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (214, 32, 38), "green": (38, 150, 62), "blue": (36, 84, 210), "yellow": (245, 208, 30)}
SHAPES = ("circle", "square", "triangle", "star")
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
SIZES: tuple["Size", ...] = ("whole", "crop")
Size = Literal["whole", "crop"]

SMOOTHING = 3
"""Drawn so many times larger, then averaged down: no staircases at the edges."""


@dataclass(frozen=True)
class Truth:
    """What a picture shows. `side` is the half that the shape lies in; a crop has it in the middle and says None."""

    colour: str
    shape: str
    side: Literal["left", "right"] | None


def draw_figure(rng: np.random.Generator, size: Size) -> tuple[Image.Image, Truth]:
    """An RGB picture, and what it shows: a whole scene about 640 pixels wide, or a close-up about 160 wide."""
    truth = Truth(str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES)), _pick_side(rng) if size == "whole" else None)
    if size == "whole":
        width, height = int(rng.integers(560, 720)), int(rng.integers(420, 540))
        radius = rng.uniform(0.12, 0.2) * height
        centre = width * rng.uniform(0.2, 0.3), height * rng.uniform(0.3, 0.7)
        if truth.side == "right":
            centre = width - centre[0], centre[1]
    else:
        width, height = int(rng.integers(128, 192)), int(rng.integers(128, 192))
        radius = rng.uniform(0.28, 0.4) * min(width, height)
        centre = width / 2 + rng.uniform(-6, 6), height / 2 + rng.uniform(-6, 6)
    ground = tuple(int(value) for value in rng.integers(205, 246) + rng.integers(-8, 9, 3))
    image = Image.new("RGB", (width * SMOOTHING, height * SMOOTHING), ground)
    points = [(SMOOTHING * (centre[0] + radius * x), SMOOTHING * (centre[1] + radius * y)) for x, y in _outline(truth.shape)]
    ImageDraw.Draw(image).polygon(points, fill=COLOURS[truth.colour])
    return image.reduce(SMOOTHING), truth


def falsify(truth: Truth, rng: np.random.Generator) -> Truth:
    """What the picture does not show: the truth with one of colour, shape and (where it has one) side changed."""
    match rng.integers(3 if truth.side else 2):
        case 0:
            return replace(truth, colour=str(rng.choice([name for name in COLOURS if name != truth.colour])))
        case 1:
            return replace(truth, shape=str(rng.choice([name for name in SHAPES if name != truth.shape])))
        case _:
            return replace(truth, side="left" if truth.side == "right" else "right")


def _pick_side(rng: np.random.Generator) -> Literal["left", "right"]:
    return SIDES[int(rng.integers(2))]


def _outline(shape: str) -> list[tuple[float, float]]:
    """The corners of a shape within the unit circle; y points down."""
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    corners, inner = {"circle": (90, 1.0), "triangle": (3, 1.0), "star": (10, 0.42)}[shape]
    radii = [1.0, inner] * (corners // 2) if shape == "star" else [1.0] * corners
    angles = [2 * pi * i / corners - pi / 2 for i in range(corners)]
    return [(radius * cos(angle), radius * sin(angle)) for radius, angle in zip(radii, angles, strict=True)]
