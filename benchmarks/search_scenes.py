"""Large scenes with one target among hundreds of other things, or none, and a reference that is never the target's pixels.

Knows how to invent figures, two ways of drawing them, and the truth. Does not know how anything is searched for.
Nothing here is shared with what the embedded model learns from: other figures, other drawing, other grounds.
"""

from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vision.search import shared
from vision.tiling import Box

KINDS = 40
"""How many kinds of figures a scene's distractors are of."""

Random = np.random.Generator
Points = NDArray[np.float64]
Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Figure:
    """Polygons (n, 2) in a unit frame, drawn one over another, each in one of `colours`."""

    parts: tuple[tuple[Points, int], ...]
    colours: tuple[Rgb, ...]


@dataclass(frozen=True)
class Case:
    """A scene, the reference picture, and where the target stands in the scene's pixels; None where it does not."""

    image: Image.Image
    reference: Image.Image
    target: Box | None


def draw_case(rng: Random, size: tuple[int, int], present: bool, density: float = 60.0) -> Case:
    """`density` things per megapixel; the target has 30 to 120 pixels and stands anywhere, also across any grid's line.

    The reference is 0.5 to 2 times as large, turned up to 20 degrees, in other colours, and up to 30 % of it, or of the
    target, is covered. A few distractors share the target's largest part.
    """
    wanted = invent(rng)
    others = [invent(rng) for _ in range(KINDS)] + [_near(wanted, rng) for _ in range(2)]
    image = _ground(rng, size)
    length, taken = float(rng.uniform(30, 120)), []
    covered = rng.random() < 0.5
    target = None
    if present:
        sprite = _flat(_tinted(wanted, rng), length, 0.0)
        left, top = (int(rng.integers(0, side - part)) for side, part in zip(size, sprite.size, strict=True))
        image.paste(_covered(sprite, rng) if covered else sprite, (left, top), sprite)
        target = Box(left, top, left + sprite.width, top + sprite.height)
        taken.append(target)
    for _ in range(round(density * size[0] * size[1] / 1e6)):
        one = _tinted(others[int(rng.integers(len(others)))], rng)
        sprite = _flat(one, float(rng.uniform(30, 120)), float(rng.uniform(-25, 25)))
        left, top = (int(rng.integers(0, max(1, side - part))) for side, part in zip(size, sprite.size, strict=True))
        box = Box(left, top, left + sprite.width, top + sprite.height)
        if not any(shared(box, other) for other in taken):
            image.paste(sprite, (left, top), sprite)
            taken.append(box)
    reference = _shaded(_recoloured(wanted, rng), length * float(np.exp2(rng.uniform(-1, 1))), rng, not covered)
    return Case(image, reference, target)


def invent(rng: Random) -> Figure:
    """A figure of a body, one to three limbs at its edge and a mark upon it."""
    body = _outline(rng, 1.0)
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        at = body[int(rng.integers(len(body)))] * 0.9
        parts.append((_outline(rng, float(rng.uniform(0.35, 0.6))) + at, 1))
    mark = _outline(rng, 0.4) + rng.uniform(-0.25, 0.25, 2)
    colours = tuple(_colour(rng) for _ in range(3))
    return _framed(Figure((*parts, (body, 0), (mark, 2)), colours))


def _near(figure: Figure, rng: Random) -> Figure:
    """Another figure with the same body."""
    other = invent(rng)
    return _framed(Figure((*other.parts[:-2], figure.parts[-2], other.parts[-1]), other.colours))


def _outline(rng: Random, scale: float) -> Points:
    """A polygon about the origin: an ellipse, a box, a star, a wedge or a soft blob, stretched and turned."""
    kind = int(rng.integers(5))
    count = (40, 4, 2 * int(rng.integers(4, 8)), 3, 60)[kind]
    turn = np.arange(count) * 2 * np.pi / count
    radius = np.ones(count)
    if kind == 2:
        radius[1::2] = rng.uniform(0.35, 0.6)
    if kind == 4:
        radius += sum(0.22 * np.cos(n * turn + rng.uniform(0, 6)) for n in (2, 3, 5))
    points = np.stack([np.cos(turn) * radius, np.sin(turn) * radius * rng.uniform(0.45, 1)], 1)
    return scale * _turned(points, float(rng.uniform(0, 360)))


def _turned(points: Points, degrees: float) -> Points:
    a = np.deg2rad(degrees)
    return np.asarray(points @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]))


def _framed(figure: Figure, degrees: float = 0.0) -> Figure:
    """The figure turned, from the origin on, its longer side 1."""
    turned = [_turned(points, degrees) for points, _ in figure.parts]
    low, high = np.concatenate(turned).min(0), np.concatenate(turned).max(0)
    parts = tuple(((p - low) / (high - low).max(), c) for p, (_, c) in zip(turned, figure.parts, strict=True))
    return replace(figure, parts=parts)


def _colour(rng: Random) -> Rgb:
    r, g, b = hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.95), rng.uniform(0.2, 1))
    return int(255 * r), int(255 * g), int(255 * b)


def _tinted(figure: Figure, rng: Random) -> Figure:
    jitter = rng.integers(-20, 21, (len(figure.colours), 3))
    return replace(
        figure, colours=tuple((*np.clip(np.add(c, j), 0, 255).tolist(),) for c, j in zip(figure.colours, jitter, strict=True))
    )


def _recoloured(figure: Figure, rng: Random) -> Figure:
    """Half of the time a cast over all colours, half of the time other colours altogether."""
    if rng.random() < 0.5:
        gain = rng.uniform(0.6, 1.4, 3)
        return replace(
            figure, colours=tuple((*np.clip(np.multiply(c, gain), 0, 255).astype(int).tolist(),) for c in figure.colours)
        )
    return replace(figure, colours=tuple(_colour(rng) for _ in figure.colours))


def _flat(figure: Figure, length: float, degrees: float) -> Image.Image:
    """RGBA, plain colours: polygons painted four times as large and averaged down."""
    turned = _framed(figure, degrees)
    size = np.ceil(np.concatenate([p for p, _ in turned.parts]).max(0) * length).astype(int) + 1
    canvas = Image.new("RGBA", (4 * int(size[0]), 4 * int(size[1])))
    pen = ImageDraw.Draw(canvas)
    for points, colour in turned.parts:
        pen.polygon([(4 * x * length, 4 * y * length) for x, y in points.tolist()], fill=(*turned.colours[colour], 255))
    return canvas.reduce(4)


def _shaded(figure: Figure, length: float, rng: Random, covered: bool) -> Image.Image:
    """RGB: each part lit from one side and outlined in the dark, slightly blurred, grainy, on a soft ground with a margin."""
    turned = _framed(figure, float(rng.uniform(-20, 20)))
    scale, margin = max(length, 12.0), 0.12
    edge = np.concatenate([p for p, _ in turned.parts]).max(0) + 2 * margin
    shape = (max(8, int(edge[1] * scale)), max(8, int(edge[0] * scale)))
    y, x = np.mgrid[: shape[0], : shape[1]] / scale
    canvas = np.array(_colour(rng)) * (0.85 + 0.3 * (x / edge[0]))[..., None]
    light = rng.uniform(-0.35, 0.35, 2)
    for points, colour in turned.parts:
        mask = Image.new("L", (shape[1], shape[0]))
        corners = [((px + margin) * scale, (py + margin) * scale) for px, py in points.tolist()]
        pen = ImageDraw.Draw(mask)
        pen.polygon(corners, fill=255)
        inside = np.asarray(mask)[..., None] > 0
        lit = np.array(turned.colours[colour]) * (1 + light[0] * (x - 0.5) + light[1] * (y - 0.5))[..., None]
        canvas = np.where(inside, lit, canvas)
        mask.paste(0, (0, 0, *mask.size))
        pen.line([*corners, corners[0]], fill=255, width=max(1, round(scale / 40)))
        canvas = np.where(np.asarray(mask)[..., None] > 0, 25.0, canvas)
    canvas += rng.normal(0, 4, canvas.shape)
    drawn = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(scale / 120))
    return _covered(drawn, rng) if covered else drawn


def _covered(image: Image.Image, rng: Random) -> Image.Image:
    """A bar of one colour over up to 30 % of the picture, from one side."""
    part, covered = float(rng.uniform(0, 0.3)), image.copy()
    w, h = image.size
    boxes = ((0, 0, round(w * part), h), (w - round(w * part), 0, w, h), (0, 0, w, round(h * part)))
    covered.paste(_colour(rng), boxes[int(rng.integers(3))])
    return covered


def _ground(rng: Random, size: tuple[int, int]) -> Image.Image:
    """Soft clouds of two colours under fine grain."""
    clouds = Image.fromarray(rng.integers(0, 256, (9, 14), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    ground = Image.composite(Image.new("RGB", size, _colour(rng)), Image.new("RGB", size, _colour(rng)), clouds)
    grain = Image.fromarray(rng.integers(0, 256, (512, 512), dtype=np.uint8))
    tiled = Image.new("L", size)
    for top in range(0, size[1], 512):
        for left in range(0, size[0], 512):
            tiled.paste(grain, (left, top))
    return Image.blend(ground, tiled.convert("RGB"), 0.06)


COLOURS = {
    "red": (205, 38, 44),
    "green": (44, 142, 70),
    "blue": (44, 92, 200),
    "yellow": (240, 205, 45),
    "purple": (124, 56, 166),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")


def draw_described(
    rng: Random, size: tuple[int, int], present: bool, density: float = 60.0
) -> tuple[Image.Image, str, Box | None]:
    """A scene of plain coloured shapes, a description ("a red star"), and where the only such thing stands, or None."""
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    colour, shape = kinds[int(rng.integers(len(kinds)))]
    others = [kind for kind in kinds if kind != (colour, shape)]
    grey = int(rng.integers(90, 240))
    image, taken = Image.new("RGB", size, (grey, grey, grey)), list[Box]()
    target: Box | None = None
    for number in range(round(density * size[0] * size[1] / 1e6) + 1):
        named = (colour, shape) if present and not number else others[int(rng.integers(len(others)))]
        plain = Figure(((_shape(named[1]), 0),), (COLOURS[named[0]],))
        sprite = _flat(_tinted(plain, rng), float(rng.uniform(30, 120)), float(rng.uniform(-15, 15)))
        left, top = (int(rng.integers(0, side - part)) for side, part in zip(size, sprite.size, strict=True))
        box = Box(left, top, left + sprite.width, top + sprite.height)
        if not any(shared(box, other) for other in taken):
            image.paste(sprite, (left, top), sprite)
            taken.append(box)
            target = box if present and not number else target
    return image, f"a {colour} {shape}", target


def _shape(name: str) -> Points:
    if name == "cross":
        arm = [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35)]
        return np.array([*arm, *((-x, -y) for x, y in arm)], np.float64)
    count = {"circle": 40, "square": 4, "triangle": 3, "star": 10}[name]
    turn = np.arange(count) * 2 * np.pi / count + (np.pi / 4 if name == "square" else -np.pi / 2)
    radius = np.tile([1.0, 0.42], 5) if name == "star" else np.ones(count)
    return np.stack([np.cos(turn) * radius, np.sin(turn) * radius], 1)
