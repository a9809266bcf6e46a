"""Pairs for the verifier: a reference and a place laid over one another, which show the same thing or do not.

Knows how to invent things, draw them in many manners and hide one among others. Does not know networks. Nothing here is shared
with the scenes that a search is measured on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from finetune.easel import Rgb
from finetune.exchange import Random
from finetune.figures import near
from finetune.oddities import draw_oddity
from finetune.outlines import SHAPES, blot, outline, turned
from finetune.textures import colour
from vision.edges import foreground
from vision.matching import FINE_TURNS, Match, find_matches, lay_over
from vision.search import shared
from vision.tiling import Box

Points = NDArray[np.float64]
Pair = tuple[Image.Image, Image.Image, bool]
"""A reference and a place, SIDE x SIDE RGB, and whether they show the same thing."""

PAINTS, FINER = 4, 3
WRONG = 5
"""Wrong places that are kept of those that the matcher finds for one reference."""


@dataclass(frozen=True)
class Thing:
    """Outlines (n, 2) from the back to the front, each with the number of its paint, and which of them is the body."""

    parts: tuple[tuple[Points, int], ...]
    body: Points


@dataclass(frozen=True)
class Manner:
    """How a picture is drawn: lines of so much of a thing's length, light from one side, blur and grain."""

    line: float
    ink: str
    light: tuple[float, float]
    blur: float
    grain: float


def invent(rng: Random, body: Points | None = None) -> Thing:
    """A body, given or drawn, mostly with one to three limbs at its edge, and mostly with a mark or two."""
    body = _part(rng, 1.0) if body is None else body
    limbs = [
        (_part(rng, float(rng.uniform(0.3, 0.65))) + body[int(rng.integers(len(body)))] * rng.uniform(0.7, 1), 1 + _odd(rng))
        for _ in range(int(rng.integers(rng.random() > 0.2, 4)))
    ]
    behind = int(rng.integers(len(limbs) + 1)) if rng.random() < 0.25 else len(limbs)
    marks = [
        (_part(rng, float(rng.uniform(0.2, 0.45))) + rng.uniform(-0.3, 0.3, 2), 2 + _odd(rng))
        for _ in range(int(rng.choice([0, 1, 1, 1, 2])))
    ]
    return Thing((*limbs[:behind], (body, 0), *limbs[behind:], *marks), body)


def draw_laid(rng: Random) -> list[Pair]:
    """A reference over the same thing, over one with its body, and over two others, laid as nearly as a matcher would."""
    thing, manner, length = invent(rng), _manner(rng), _length(rng)
    paints, covered = _paints(rng), rng.random() < 0.5
    shown, degrees, share = _draw_reference(rng, thing, paints, length, covered and rng.random() < 0.5)
    cut = foreground(shown)
    pairs = list[Pair]()
    for other in (thing, invent(rng, thing.body), invent(rng), invent(rng)):
        is_same = other is thing
        tilt = float(rng.uniform(-4, 4) if is_same else rng.uniform(-25, 25))
        sprite = _painted(rng, other, length, tilt, paints if is_same else _paints(rng), manner)
        image = _crowded(rng, sprite, int(3 * length), length, manner, is_same and covered)
        middle = np.array(image.size) / 2 + rng.normal(0, 0.03, 2) * length
        long = (max(cut.size) / share if is_same else length * rng.uniform(0.8, 1.2)) * np.exp(rng.normal(0, 0.05))
        turn = FINE_TURNS[int(np.abs(np.array(FINE_TURNS) - (degrees - tilt + rng.normal(0, 3))).argmin())]
        size = np.divide(cut.size, max(cut.size)) * long
        box = Box(*map(round, (*(middle - size / 2), *(middle + size / 2))))
        pairs.append((*lay_over(image, cut, Match(box, 1.0, turn=turn)), is_same))
    # Where the reference's foreground is another than the thing, nobody knows what lies where.
    return pairs if abs(max(cut.size) / share / length - 1) < 0.2 else []


def draw_hunted(rng: Random) -> list[Pair]:
    """What the matcher takes for a reference among many things: the right place, where there is one, and wrong ones."""
    image, shown, target = _hide(rng)
    *_, (_, matches) = find_matches(image, shown, is_verified=False)
    cut, pairs = foreground(shown), list[Pair]()
    for match in matches:
        is_same = target is not None and is_at(match.box, target)
        if sum(is_right == is_same for *_, is_right in pairs) < (1 if is_same else WRONG):
            pairs.append((*lay_over(image, cut, match), is_same))
    return pairs


def _hide(rng: Random) -> tuple[Image.Image, Image.Image, Box | None]:
    """A picture with many things, a reference, and where the thing stands; None where it does not."""
    thing, manner, length = invent(rng), _manner(rng), _length(rng)
    others = [invent(rng) for _ in range(30)] + [invent(rng, thing.body) for _ in range(int(rng.integers(3)))]
    tints = [_paints(rng) for _ in others]
    paints, covered = _paints(rng), rng.random() < 0.5
    side = int(np.exp(rng.uniform(np.log(380), np.log(1000))))
    image, taken = _ground(rng, (side, side)), list[Box]()
    target = None
    is_behind = covered and rng.random() < 0.5
    if rng.random() < 0.65:
        sprite = _painted(rng, thing, length, float(rng.uniform(-4, 4)), _near(rng, paints), manner)
        target = _place(rng, image, sprite, taken, is_behind)
    for _ in range(round(rng.uniform(50, 170) * side * side / 1e6)):
        number = int(rng.integers(len(others)))
        paint = _near(rng, tints[number])
        sprite = _painted(rng, others[number], _length(rng), float(rng.uniform(-25, 25)), paint, manner)
        _place(rng, image, sprite, taken)
    shown, *_ = _draw_reference(rng, thing, paints, length, covered and not (is_behind and target))
    return _blurred(image, manner.blur * 60), shown, target


def _draw_reference(
    rng: Random, thing: Thing, paints: Sequence[Rgb], length: float, is_covered: bool
) -> tuple[Image.Image, float, float]:
    """A picture of the thing, its turn in degrees, and how many times longer than `length` it is."""
    fate = rng.random()
    paints = _paints(rng) if fate < 0.5 else _cast(rng, paints) if fate < 0.9 else paints
    share, degrees, manner = float(np.exp2(rng.uniform(-1, 1))), float(rng.uniform(-20, 20)), _manner(rng)
    share = max(12.0, share * length) / length
    sprite = _painted(rng, thing, share * length, degrees, paints, manner)
    margin = 1 + round(share * length * rng.uniform(0, 0.2))
    size = sprite.width + 2 * margin, sprite.height + 2 * margin
    shown = _ground(rng, size) if rng.random() < 0.3 else Image.new("RGB", size, colour(rng))
    shown.paste(sprite, (margin, margin), sprite)
    shown = _grained(rng, _blurred(shown, manner.blur * share * length / 2), float(rng.uniform(0, 5)))
    return (_covered(rng, shown) if is_covered else shown), degrees, share


def _crowded(rng: Random, sprite: Image.Image, side: int, length: float, manner: Manner, is_covered: bool) -> Image.Image:
    """The thing in the middle of a square, a few others around and partly under it."""
    image = _ground(rng, (side, side))
    for _ in range(int(rng.integers(5))):
        size = length * float(rng.uniform(0.4, 1.2))
        other = _painted(rng, invent(rng), size, float(rng.uniform(-25, 25)), _paints(rng), manner)
        away, angle = (max(other.size) + max(sprite.size)) / 2 * rng.uniform(0.9, 1.3), rng.uniform(0, 2 * np.pi)
        x, y = side / 2 + away * np.cos(angle), side / 2 + away * np.sin(angle)
        image.paste(other, (int(x - other.width / 2), int(y - other.height / 2)), other)
    painted = _covered(rng, sprite.convert("RGB")) if is_covered and rng.random() < 0.5 else sprite
    image.paste(painted, ((side - sprite.width) // 2, (side - sprite.height) // 2), sprite)
    return _blurred(image, manner.blur * 60)


def _place(rng: Random, image: Image.Image, sprite: Image.Image, taken: list[Box], is_covered: bool = False) -> Box | None:
    for _ in range(4):
        left, top = (int(rng.integers(max(1, whole - part))) for whole, part in zip(image.size, sprite.size, strict=True))
        box = Box(left, top, left + sprite.width, top + sprite.height)
        if not any(shared(box, other) for other in taken):
            image.paste(_covered(rng, sprite.convert("RGB")) if is_covered else sprite, (left, top), sprite)
            taken.append(box)
            return box
    return None


def is_at(box: Box, target: Box) -> bool:
    """Whether the middles lie within half the longer side of the target of each other, across and down."""
    gaps = (box.left + box.right - target.left - target.right, box.top + box.bottom - target.top - target.bottom)
    return max(map(abs, gaps)) <= max(target.size)


def _part(rng: Random, scale: float) -> Points:
    """A blot or a shape, stretched, turned, about the origin."""
    points = blot(rng) if rng.random() < 0.5 else outline(SHAPES[int(rng.integers(len(SHAPES)))], float(rng.uniform(0, 360)))
    return turned((points - points.max(0) / 2) * 2 * scale * (1, rng.uniform(0.45, 1)), float(rng.uniform(0, 360)))


def _odd(rng: Random) -> int:
    return int(rng.random() < 0.3)


def _length(rng: Random) -> float:
    return float(np.exp(rng.uniform(np.log(26), np.log(125))))


def _manner(rng: Random) -> Manner:
    light = rng.uniform(-0.4, 0.4, 2) * (rng.random() < 0.5)
    return Manner(
        line=float((rng.random() < 0.5) * rng.uniform(0.012, 0.05)),
        ink=str(rng.choice(["dark", "own", "bright"], p=[0.6, 0.25, 0.15])),
        light=(float(light[0]), float(light[1])),
        blur=float((rng.random() < 0.5) * rng.uniform(0, 0.02)),
        grain=float((rng.random() < 0.5) * rng.uniform(0, 8)),
    )


def _painted(rng: Random, thing: Thing, length: float, degrees: float, paints: Sequence[Rgb], manner: Manner) -> Image.Image:
    """RGBA, the longer side `length` pixels, turned clockwise."""
    parts = [turned(points, degrees) for points, _ in thing.parts]
    low, high = np.concatenate(parts).min(0), np.concatenate(parts).max(0)
    scale = FINER * length / float((high - low).max())
    image = Image.new("RGBA", (*((np.ceil((high - low) * scale / FINER).astype(int) + 2) * FINER).tolist(),))
    pen, width = ImageDraw.Draw(image), max(2, round(FINER * max(0.9, manner.line * length)))
    for points, (_, number) in zip(parts, thing.parts, strict=True):
        corners = [(FINER + x, FINER + y) for x, y in ((points - low) * scale).tolist()]
        pen.polygon(corners, fill=(*paints[number], 255))
        if manner.line:
            own = tuple(int(0.55 * level) for level in paints[number])
            ink = {"dark": (25, 25, 25), "bright": (240, 240, 240), "own": own}[manner.ink]
            pen.line([*corners, corners[0]], fill=(*ink, 255), width=width)
    small = image.reduce(FINER)
    y, x = np.mgrid[: small.height, : small.width] / max(small.size)
    pixels = np.asarray(small, np.float32).copy()
    pixels[..., :3] *= (1 + manner.light[0] * (x - 0.5) + manner.light[1] * (y - 0.5))[..., None]
    pixels[..., :3] += rng.normal(0, max(manner.grain, 1e-6), pixels.shape[:2])[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _ground(rng: Random, size: tuple[int, int]) -> Image.Image:
    """One colour, soft clouds of two, or a texture, most of them pale; often grainy."""
    fate, plain = rng.random(), Image.new("RGB", size, colour(rng))
    if fate > 0.75:
        texture = draw_oddity(rng).resize(size)
        plain = Image.blend(texture, plain, float(rng.uniform(0.4, 0.85))) if rng.random() < 0.6 else texture
    elif fate > 0.3:
        clouds = Image.fromarray(rng.integers(0, 256, tuple(rng.integers(2, 6, 2).tolist()), dtype=np.uint8))
        plain = Image.composite(plain, Image.new("RGB", size, colour(rng)), clouds.resize(size, Image.Resampling.BICUBIC))
    return _grained(rng, plain, float((rng.random() < 0.6) * rng.uniform(1, 9)))


def _grained(rng: Random, image: Image.Image, much: float) -> Image.Image:
    pixels = np.asarray(image, np.float32) + rng.normal(0, max(much, 1e-6), (image.height, image.width, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _blurred(image: Image.Image, radius: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius)) if radius else image


def _covered(rng: Random, image: Image.Image) -> Image.Image:
    """Up to 30 % of it under a bar from one side, or a blot."""
    part, covered, paint = float(rng.uniform(0, 0.3)), image.copy(), colour(rng)
    w, h = image.size
    if rng.random() < 0.3:
        size = (part * w * h) ** 0.5
        corners = blot(rng) * size + rng.uniform(0, 1, 2) * (w - size, h - size)
        ImageDraw.Draw(covered).polygon([(x, y) for x, y in corners.tolist()], fill=paint)
        return covered
    across, down = round(w * part), round(h * part)
    bars = ((0, 0, across, h), (w - across, 0, w, h), (0, 0, w, down), (0, h - down, w, h))
    covered.paste(paint, bars[int(rng.integers(4))])
    return covered


def _paints(rng: Random) -> list[Rgb]:
    return [colour(rng) for _ in range(PAINTS)]


def _near(rng: Random, paints: Sequence[Rgb]) -> list[Rgb]:
    return [near(rng, paint, 20) for paint in paints]


def _cast(rng: Random, paints: Sequence[Rgb]) -> list[Rgb]:
    casts = [np.clip(np.multiply(paint, rng.uniform(0.6, 1.4, 3)), 0, 255).astype(int).tolist() for paint in paints]
    return [(r, g, b) for r, g, b in casts]
