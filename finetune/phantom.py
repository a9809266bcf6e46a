"""Phantoms: synthetic frontal chest radiographs, with or without one hazy opacity.

Knows a cartoon of the anatomy and what it has drawn. Does not know patients, diagnoses,
questions, models or files. The patient's right is at the image's left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from vision.tiling import Box

ZONES = ("upper", "middle", "lower")
SIDES = ("right", "left")
WORK = 224  # the longer side at which the anatomy is composed, before film and noise
MARK = 3  # the opacity in Phantom.index

_TORSO = [
    (-0.16, -0.2), (0.16, -0.2), (0.17, 0.03), (0.5, 0.09), (0.93, 0.17), (1.06, 0.36), (0.93, 0.52),
    (0.9, 1.3), (-0.9, 1.3), (-0.93, 0.52), (-1.06, 0.36), (-0.93, 0.17), (-0.5, 0.09), (-0.17, 0.03),
]  # fmt: skip
_LUNGS = {
    "right": [
        (-0.13, 0.2), (-0.2, 0.1), (-0.36, 0.09), (-0.52, 0.17), (-0.68, 0.4), (-0.75, 0.66), (-0.76, 0.86),
        (-0.66, 0.8), (-0.44, 0.73), (-0.24, 0.77), (-0.18, 0.72), (-0.17, 0.5), (-0.13, 0.36),
    ],
    "left": [
        (0.13, 0.2), (0.2, 0.1), (0.36, 0.09), (0.52, 0.17), (0.68, 0.4), (0.75, 0.66), (0.77, 0.88),
        (0.67, 0.83), (0.52, 0.78), (0.45, 0.78), (0.4, 0.66), (0.25, 0.5), (0.15, 0.42), (0.14, 0.34),
    ],
}  # fmt: skip
_MEDIASTINUM = [
    (-0.12, -0.1), (0.12, -0.1), (0.13, 0.2), (0.17, 0.27), (0.15, 0.4), (0.27, 0.5), (0.43, 0.66), (0.46, 0.82),
    (-0.22, 0.82), (-0.21, 0.6), (-0.14, 0.45),
]  # fmt: skip


@dataclass(frozen=True)
class Opacity:
    """A hazy patch in one third (by height) of one lung; the box is in the image's pixels."""

    side: str
    zone: str
    box: Box


@dataclass(frozen=True)
class Phantom:
    """A grey RGB image and its truth; all boxes are in its pixels.

    `index` ("L", same size) is 1 on the right lung, 2 on the left, 3 on the opacity, else 0. `marker` is the
    letter in the upper corner of the film at that side of the patient, if there is one.
    """

    image: Image.Image
    opacity: Opacity | None
    lungs: dict[str, Box]
    marker: str | None
    index: Image.Image


@dataclass(frozen=True)
class _Pose:
    """From the body's frame (x -1..1 across, 0 the spine; y 0..1 down) to an image's pixels."""

    matrix: np.ndarray
    offset: np.ndarray

    def place(self, points: Sequence[tuple[float, float]] | np.ndarray) -> np.ndarray:
        return np.asarray(np.asarray(points, float) @ self.matrix.T + self.offset)

    def scaled(self, factor: float) -> "_Pose":
        return _Pose(self.matrix * factor, self.offset * factor)


def draw_phantom(rng: np.random.Generator, opacity: bool | None = None) -> Phantom:
    """A phantom that depends on nothing but `rng`; None gives half of them an opacity.

    From the same state of `rng`, the film with and the film without an opacity differ only in its place (elsewhere
    by one level at most, the rounding of the blur).
    """
    present = bool(rng.random() < 0.5) if opacity is None else opacity
    patch_rng = np.random.default_rng(rng.integers(2**62))
    size = _film_size(rng)
    pose = _choose_pose(rng, size)
    factor = WORK / max(size)
    small = (round(size[0] * factor), round(size[1] * factor))
    lungs = {side: _sway(rng, _LUNGS[side]) for side in SIDES}
    index = Image.new("L", size)
    for value, side in enumerate(SIDES, start=1):
        _fill(index, pose.place(lungs[side]), value)
    body = _compose_body(rng, small, pose.scaled(factor), lungs)
    boxes = {side: _extent(index, value) for value, side in enumerate(SIDES, start=1)}
    found = None
    if present:
        haze, found, index = _haze(patch_rng, index, boxes)
        body += np.asarray(haze.resize(small, Image.Resampling.BILINEAR)) * patch_rng.uniform(0.16, 0.28)
    image, marker = _expose(rng, body, size)
    return Phantom(image, found, boxes, marker, index)


def _extent(index: Image.Image, value: int) -> Box:
    """The smallest box around the pixels of this value."""
    return Box(*(index.point(_only(value)).getbbox() or (0, 0, *index.size)))


def _only(value: int) -> list[int]:
    return [255 * (v == value) for v in range(256)]


def _film_size(rng: np.random.Generator) -> tuple[int, int]:
    longer, aspect = int(rng.integers(280, 449)), float(rng.uniform(0.8, 1.3))
    return (longer, round(longer / aspect)) if aspect >= 1 else (round(longer * aspect), longer)


def _choose_pose(rng: np.random.Generator, size: tuple[int, int]) -> _Pose:
    width, height = size
    scale, turn = rng.uniform(0.88, 1.04), np.deg2rad(rng.uniform(-3, 3))
    half, tall = 0.5 * min(width, 1.12 * height) * scale, height * scale * rng.uniform(0.94, 1.02)
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([half, tall])
    centre = np.array([width * (0.5 + rng.uniform(-0.03, 0.03)), height * (0.5 + rng.uniform(-0.02, 0.02))])
    return _Pose(matrix, centre - matrix @ np.array([0.0, 0.49]))


def _sway(rng: np.random.Generator, points: Sequence[tuple[float, float]], amount: float = 0.012) -> np.ndarray:
    """The closed curve through slightly moved points, its corners cut round."""
    curve = np.asarray(points, float) + rng.normal(0, amount, (len(points), 2)).clip(-2 * amount, 2 * amount)
    for _ in range(3):
        after = np.roll(curve, -1, axis=0)
        curve = np.stack([0.75 * curve + 0.25 * after, 0.25 * curve + 0.75 * after], 1).reshape(-1, 2)
    return np.asarray(curve)


def _fill(image: Image.Image, points: np.ndarray, value: int) -> None:
    ImageDraw.Draw(image).polygon([tuple(p) for p in points.tolist()], fill=value)


def _soft(image: Image.Image, blur: float) -> np.ndarray:
    """A mask as floats 0..1, its edge spread over about `blur` pixels."""
    return np.asarray(image.filter(ImageFilter.BoxBlur(blur)).filter(ImageFilter.BoxBlur(blur)), np.float32) / 255


def _region(size: tuple[int, int], points: np.ndarray, blur: float) -> np.ndarray:
    mask = Image.new("L", size)
    _fill(mask, points, 255)
    return _soft(mask, blur)


def _compose_body(rng: np.random.Generator, size: tuple[int, int], pose: _Pose, lungs: dict[str, np.ndarray]) -> np.ndarray:
    """Brightness, about 0..1, of the body on an image of (width, height), before the film."""
    torso = _region(size, pose.place(_sway(rng, _TORSO, 0.02)), 3)
    air = np.maximum(*(_region(size, pose.place(lungs[side]), 1.6) for side in SIDES))
    middle = _region(size, pose.place(_sway(rng, _MEDIASTINUM)), 3.5)
    belly = _region(size, pose.place([(-1.2, 0.83), (1.2, 0.83), (1.2, 1.4), (-1.2, 1.4)]), 12)
    body = torso * (0.48 + 0.13 * belly + rng.uniform(0.12, 0.2) * middle * (1 - air))
    body -= rng.uniform(0.27, 0.35) * air * torso
    rungs = 0.75 + 0.25 * np.sign(np.sin(np.arange(size[1], dtype=np.float32) * (2 * np.pi * 15 / size[1])))
    spine = _region(size, pose.place([(-0.085, -0.2), (0.085, -0.2), (0.1, 1.3), (-0.1, 1.3)]), 2)
    body += 0.07 * spine * rungs[:, None]
    body += rng.uniform(0.05, 0.1) * _bones(rng, size, pose) * torso * (0.45 + 0.55 * air)
    body += 0.09 * _strokes(size, pose, _clavicles(rng), 0.034, 1.4) * torso
    body += rng.uniform(0.06, 0.12) * _vessels(rng, size, pose) * air
    body -= 0.17 * _region(size, pose.place([(-0.03, -0.2), (0.03, -0.2), (0.025, 0.3), (-0.03, 0.3)]), 2.5) * torso
    if rng.random() < 0.4:
        bubble = np.array([0.42, 0.92]) + _circle() * (0.13, 0.05)
        body -= 0.16 * _region(size, pose.place(bubble), 3)
    return np.asarray(body)


def _circle() -> np.ndarray:
    turns = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.stack([np.cos(turns), np.sin(turns)], 1)


def _strokes(size: tuple[int, int], pose: _Pose, curves: Sequence[np.ndarray], width: float, blur: float) -> np.ndarray:
    """Lines `width` wide as a part of the body's height, as a soft mask."""
    mask = Image.new("L", size)
    pen = ImageDraw.Draw(mask)
    pixels = max(1, round(width * float(np.hypot(*pose.matrix[:, 1]))))
    for curve in curves:
        pen.line([tuple(p) for p in pose.place(curve).tolist()], fill=255, width=pixels, joint="curve")
    return _soft(mask, blur)


def _bones(rng: np.random.Generator, size: tuple[int, int], pose: _Pose) -> np.ndarray:
    """The ribs: behind, from the spine out and down; in front, fainter, from the side in and down."""
    step, start, drop = rng.uniform(0.082, 0.09), rng.uniform(0.1, 0.13), rng.uniform(0.09, 0.15)
    t = np.linspace(0, 1, 14)
    back, front = [], []
    for i in range(9):
        y, reach = start + i * step, min(0.82, 0.45 + 0.075 * i)
        for way in (-1, 1):
            x = way * (0.09 + (reach - 0.09) * np.sin(t * np.pi / 2))
            back.append(np.stack([x, y - 0.035 * np.sin(np.pi * t) + drop * t**2.2], 1))
            x = way * (reach - (reach - 0.3) * t)
            front.append(np.stack([x, y + drop + 0.11 * t**0.8], 1))
    behind = _strokes(size, pose, back, rng.uniform(0.022, 0.03), 1)
    return behind + 0.5 * _strokes(size, pose, front[2:14], 0.026, 1.6)


def _clavicles(rng: np.random.Generator) -> list[np.ndarray]:
    t, lift = np.linspace(0, 1, 12), rng.uniform(0.02, 0.07)
    y = 0.185 - lift * t + 0.018 * np.sin(2 * np.pi * t)
    return [np.stack([way * (0.07 + 0.7 * t), y], 1) for way in (-1, 1)]


def _vessels(rng: np.random.Generator, size: tuple[int, int], pose: _Pose) -> np.ndarray:
    """Branches that fan out from each hilum, which is itself a soft knot."""
    curves, knots = [], np.zeros((size[1], size[0]), np.float32)
    t = np.linspace(0, 1, 6)[:, None]
    for way in (-1, 1):
        root = np.array([way * 0.2, 0.42 - 0.02 * (way > 0)])
        knots += _region(size, pose.place(root + _circle() * (0.08, 0.06)), 4)
        for angle in rng.uniform(-0.9, 1.4, 11):
            tip = np.array([way * np.cos(angle), 0.8 * np.sin(angle)]) * rng.uniform(0.2, 0.42)
            curves.append(root + tip * t + rng.normal(0, 0.03, 2) * np.sin(np.pi * t))
    return knots + 0.7 * _strokes(size, pose, curves, 0.009, 1)


def _haze(rng: np.random.Generator, index: Image.Image, lungs: dict[str, Box]) -> tuple[Image.Image, Opacity, Image.Image]:
    """A patch of about 0..1 that ends inside one third of one lung, its truth, and the index with it marked."""
    number = int(rng.integers(2))
    side, zone = SIDES[number], int(rng.integers(3))
    box, lung = lungs[side], np.asarray(index) == number + 1
    third = (box.bottom - box.top) / 3
    top, bottom = box.top + zone * third, box.top + (zone + 1) * third
    reach = third * rng.uniform(0.36, 0.49)
    ys, xs = np.nonzero(lung[int(top + reach) : int(bottom - reach) + 1])
    inner = (xs > np.percentile(xs, 22)) & (xs < np.percentile(xs, 78))
    pick = np.flatnonzero(inner)[rng.integers(int(inner.sum()))]
    y, x = float(np.clip(ys[pick] + int(top + reach), top + reach, bottom - reach)), float(xs[pick])
    field = _blend(rng, index.size, (x, y), reach) * _soft(Image.fromarray(lung.astype(np.uint8) * 255), 2) * lung
    marked = Image.fromarray(np.where(field > 0.3, np.uint8(MARK), np.asarray(index)))
    coarse = Image.fromarray(rng.uniform(0.84, 1.1, (36, 36)).astype(np.float32))
    texture = np.asarray(coarse.resize(index.size, Image.Resampling.BICUBIC))
    found = Opacity(side, ZONES[zone], _extent(marked, MARK))
    return Image.fromarray(field * texture), found, marked


def _blend(rng: np.random.Generator, size: tuple[int, int], centre: tuple[float, float], reach: float) -> np.ndarray:
    """Five ellipses run together: 0..1 on an image of (width, height), 0 from `reach` pixels above and below on."""
    rows, columns = np.ogrid[: size[1], : size[0]]
    field = np.zeros((size[1], size[0]), np.float32)
    for _ in range(5):
        part = rng.uniform(0.68, 0.97)
        away = rng.uniform(-1, 1, 2) * (1 - part) * reach
        across = (columns - centre[0] - 1.5 * away[0]) / (part * reach * rng.uniform(0.9, 1.4))
        down = (rows - centre[1] - away[1]) / (part * reach)
        field += np.maximum(0, 1 - across.astype(np.float32) ** 2 - down.astype(np.float32) ** 2)
    return np.asarray(np.minimum(1, field / (0.62 * field.max())))


def _expose(rng: np.random.Generator, body: np.ndarray, size: tuple[int, int]) -> tuple[Image.Image, str | None]:
    """The film of (width, height): tone, grain, a marker on some, black borders on some."""
    low, gain, gamma = rng.uniform(0.01, 0.06), rng.uniform(1.0, 1.3), rng.uniform(0.8, 1.2)
    tone = low + np.clip(body * gain, 0, 1.2) ** gamma
    film = Image.fromarray(tone.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.standard_normal((size[1], size[0]), dtype=np.float32) * rng.uniform(0.008, 0.024)
    grey = Image.fromarray(np.clip((np.asarray(film) + grain) * 245, 0, 255).astype(np.uint8))
    grey = grey.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7)))
    width, height = size
    border = round(rng.uniform(0.02, 0.05) * min(size)) if rng.random() < 0.25 else 0
    sides = rng.random(2) < 0.6
    across, down = border * int(sides[0]), border * int(sides[1])
    framed = Image.new("L", size)
    framed.paste(grey.crop((across, down, width - across, height - down)), (across, down))
    marker = (None, "R", "L")[rng.choice(3, p=[0.4, 0.35, 0.25])]
    if marker:
        font = ImageFont.load_default(round(0.075 * max(size)))
        x = across + 0.03 * width if marker == "R" else width - across - 0.03 * width
        place = (x, down + 0.02 * height)
        ImageDraw.Draw(framed).text(place, marker, 235, font, anchor="lt" if marker == "R" else "rt")
    return framed.convert("RGB"), marker
