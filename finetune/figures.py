"""Figures: things put together from several shapes, to be looked for by a picture of them in other colours.

Knows how to put figures together and paint them. Does not know scenes, questions or models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from finetune.easel import Easel, Rgb, paint_paper
from finetune.exchange import Random
from finetune.outlines import SHAPES, blot, outline, turned

Part = tuple[NDArray[np.float64], Rgb]


@dataclass(frozen=True)
class Figure:
    """Outlines (n, 2) about the origin, each in its colour, the later ones on top."""

    parts: tuple[Part, ...]

    def painted(self, extent: int, degrees: float, paints: Sequence[Rgb]) -> Image.Image:
        """RGBA, `extent` pixels long, turned clockwise and in these colours."""
        parts = [turned(points, degrees) for points, _ in self.parts]
        low, high = np.concatenate(parts).min(0), np.concatenate(parts).max(0)
        scale = 2 * extent / (high - low).max()
        image = Image.new("RGBA", (*np.ceil((high - low) * scale / 2).astype(int) * 2,))
        for points, paint in zip(parts, paints, strict=True):
            ImageDraw.Draw(image).polygon([tuple(p) for p in ((points - low) * scale).tolist()], fill=(*paint, 255))
        return image.reduce(2)


def draw_figure(rng: Random, body: Part | None = None) -> Figure:
    """A body, given or drawn, one to three limbs behind its edge, and perhaps a mark upon it."""
    body = body or (_part(rng, 1.0), _colour(rng))
    edge = body[0][rng.integers(len(body[0]), size=int(rng.integers(1, 4)))]
    limbs = [(_part(rng, float(rng.uniform(0.3, 0.65))) + at, _colour(rng)) for at in edge]
    marks = [(_part(rng, 0.4) + rng.uniform(-0.2, 0.2, 2), _colour(rng))] if rng.random() < 0.8 else []
    return Figure((*limbs, body, *marks))


def draw_hunt(rng: Random) -> tuple[Image.Image, Image.Image, Image.Image, bool]:
    """A picture of a figure, a paper with figures, its index, 1 where the figure stands, and whether it does.

    The figure in the picture is turned, of another size and in other colours. Some of the others have its body.
    """
    wanted = draw_figure(rng)
    there = bool(rng.random() < 0.5)
    others = [draw_figure(rng, wanted.parts[-2] if rng.random() < 0.2 else None) for _ in range(int(rng.integers(1, 6)))]
    side = int(rng.integers(150, 340))
    easel = Easel(rng, paint_paper(rng, (side, side), _colour(rng)))
    extent = int(rng.uniform(0.18, 0.5) * side)
    there = there and _put(easel, wanted, extent, 12.0, 1)
    for other in others:
        _put(easel, other, int(rng.uniform(0.18, 0.5) * side), 25.0, 0)
    fresh = rng.random() < 0.5
    paints = [_colour(rng) if fresh else near(rng, paint, 45) for _, paint in wanted.parts]
    sprite = wanted.painted(int(rng.uniform(60, 260)), float(rng.uniform(-20, 20)), paints)
    margin = max(2, int(0.1 * max(sprite.size)))
    shown = Image.new("RGB", (sprite.width + 2 * margin, sprite.height + 2 * margin), _colour(rng))
    shown.paste(sprite, (margin, margin), sprite)
    return shown, easel.image, easel.index, there


def _put(easel: Easel, figure: Figure, extent: int, turn: float, value: int) -> bool:
    """Whether it found a place; it is marked with `value` in the index."""
    paints = [near(easel.rng, paint, 20) for _, paint in figure.parts]
    sprite = figure.painted(extent, float(easel.rng.uniform(-turn, turn)), paints)
    place = easel.find_place(*sprite.size)
    if place is None:
        return False
    easel.image.paste(sprite, place, sprite)
    easel.index.paste(value, place, sprite.getchannel("A").point(lambda v: 255 * (v >= 128)))
    return True


def _part(rng: Random, scale: float) -> NDArray[np.float64]:
    """A blot or a shape, stretched, about the origin."""
    points = blot(rng) if rng.random() < 0.5 else outline(SHAPES[int(rng.integers(len(SHAPES)))], float(rng.uniform(0, 360)))
    return np.asarray((points - points.max(0) / 2) * 2 * scale * (1, rng.uniform(0.5, 1)))


def near(rng: Random, paint: Rgb, reach: int) -> Rgb:
    """A paint of which each channel is up to `reach` levels away."""
    r, g, b = np.clip(np.add(paint, rng.integers(-reach, reach + 1, 3)), 0, 255).tolist()
    return r, g, b


def _colour(rng: Random) -> Rgb:
    r, g, b = rng.integers(256, size=3).tolist()
    return r, g, b
