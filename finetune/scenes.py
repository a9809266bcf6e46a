"""Scenes: pictures of plain shapes and lettering whose every content is known.

Knows how to draw and what it has drawn. Does not know questions, answers, models or files.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from finetune.outlines import RING_HOLE, SHAPES, TILT, outline
from vision.tiling import Box

COLOURS = {
    "red": (215, 30, 35),
    "orange": (246, 135, 20),
    "yellow": (250, 218, 35),
    "green": (35, 155, 60),
    "blue": (35, 85, 215),
    "purple": (130, 45, 175),
    "pink": (250, 135, 190),
    "brown": (120, 70, 32),
    "black": (20, 20, 20),
    "white": (251, 251, 251),
}
HELD_OUT = frozenset(
    {
        ("red", "star"),
        ("blue", "heart"),
        ("green", "triangle"),
        ("purple", "square"),
        ("yellow", "cross"),
        ("orange", "ring"),
    }
)
SIZES = ("small", "medium", "large")
EXTENT = {"small": (0.09, 0.13), "medium": (0.16, 0.22), "large": (0.28, 0.38)}
"""The longer side of an item's box, as a part of the image's longer side."""
WORDS = (
    "CAT", "DOG", "STOP", "EXIT", "OPEN", "SHOP", "TAXI", "BUS", "CAFE", "HOTEL", "PARK", "BANK",
    "FISH", "MILK", "BREAD", "SUN", "MOON", "BOOK", "TREE", "HELLO", "LEFT", "RIGHT", "YES", "SALE",
)  # fmt: skip
LETTERS = string.ascii_uppercase + string.digits
BACKGROUNDS = (
    ("white", (246, 246, 243)),
    ("white", (246, 246, 243)),
    ("grey", (196, 197, 198)),
    ("grey", (128, 128, 130)),
    ("grey", (84, 86, 90)),
    ("black", (18, 18, 22)),
    ("blue", (165, 205, 246)),
    ("blue", (22, 38, 100)),
    ("green", (172, 224, 172)),
    ("green", (18, 68, 38)),
    ("yellow", (250, 238, 155)),
    ("pink", (250, 196, 214)),
    ("orange", (247, 196, 130)),
    ("purple", (206, 180, 240)),
    ("brown", (74, 46, 26)),
)
SHADE = 14  # how far a gradient, stripes or noise may take the background from its colour
CONTRAST = 150  # the least RGB distance of a colour drawn from its background
GAP = 5 / 336  # between any two things drawn, as a part of the longer side
TRIES = 24

Rgb = tuple[int, int, int]
Kind = tuple[str, str]


@dataclass(frozen=True)
class Item:
    """One shape; `box` holds the pixels that it covers by half or more."""

    kind: str
    colour: str
    size: str
    box: Box


@dataclass(frozen=True)
class Lettering:
    """One to three digits or a word of WORDS, set on one line; the boxes hold the ink."""

    text: str
    box: Box
    letters: tuple[Box, ...]


@dataclass(frozen=True)
class Scene:
    """An RGB image and its truth; all boxes are in its pixels.

    `index` ("L", same size) is i + 1 where item i is visible, 101 + j in the box of letter j, else 0.
    """

    image: Image.Image
    items: tuple[Item, ...]
    lettering: Lettering | None
    background: str
    index: Image.Image


def draw_scene(rng: np.random.Generator, held_out: bool = False) -> Scene:
    """A scene that depends on nothing but `rng`: up to 7 items that lie whole and apart, or lettering, or both.

    No pair of HELD_OUT is drawn unless `held_out`; then at least one is.
    """
    size = _image_size(rng)
    background, paper = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    colours = [name for name, rgb in COLOURS.items() if _distance(rgb, paper) >= CONTRAST]
    lettered = rng.random() < 0.25
    alone = lettered and not held_out and rng.random() < 0.3
    kinds = [] if alone else _choose_kinds(rng, colours, held_out)
    canvas = _Canvas(rng, _paint_paper(rng, size, paper))
    extents = _choose_sizes(rng, len(kinds))
    first, rest = kinds[:1], kinds[1:]
    canvas.draw_items(first, extents[:1])
    lettering = canvas.draw_lettering([COLOURS[name] for name in colours]) if lettered else None
    canvas.draw_items(rest, extents[1:])
    return Scene(canvas.image, tuple(canvas.items), lettering, background, canvas.index)


def draw_crowd(rng: np.random.Generator) -> Scene:
    """A square scene packed with small and medium items, or with single letters and digits: much to see per pixel.

    A tower learns a shape from the number of shapes it has seen, not from the number of images.
    """
    background, paper = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    colours = [name for name, rgb in COLOURS.items() if _distance(rgb, paper) >= CONTRAST]
    canvas = _Canvas(rng, _paint_paper(rng, (336, 336), paper))
    if rng.random() < 0.25:
        lettering = canvas.draw_letters([COLOURS[name] for name in colours], 24)
        return Scene(canvas.image, (), lettering, background, canvas.index)
    pairs = [(c, s) for c in colours for s in SHAPES if (c, s) not in HELD_OUT]
    count = int(rng.integers(12, 36))
    kinds = [pairs[i] for i in rng.integers(len(pairs), size=count)]
    canvas.draw_items(kinds, [SIZES[i] for i in rng.choice(3, size=count, p=(0.66, 0.3, 0.04))])
    return Scene(canvas.image, tuple(canvas.items), None, background, canvas.index)


def _image_size(rng: np.random.Generator) -> tuple[int, int]:
    longer, aspect = int(rng.integers(336, 561)), float(np.exp(rng.uniform(np.log(0.6), np.log(1.7))))
    return (longer, round(longer / aspect)) if aspect >= 1 else (round(longer * aspect), longer)


def _distance(one: Sequence[int], other: Sequence[int]) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def _choose_kinds(rng: np.random.Generator, colours: Sequence[str], held_out: bool) -> list[Kind]:
    """The (colour, shape) of each item, the most important first."""
    pairs = [(c, s) for c in colours for s in SHAPES if held_out or (c, s) not in HELD_OUT]

    def pick(among: Sequence[Kind]) -> Kind:
        return among[int(rng.integers(len(among)))]

    first = pick([pair for pair in pairs if pair in HELD_OUT] if held_out else pairs)
    plan, group = rng.random(), int(rng.integers(2, 6))
    others = int(rng.integers(0, 8 - group))
    if plan < 0.4:
        kinds = [first] * group
    elif plan < 0.52:
        kinds = [first] + [pick([p for p in pairs if p[1] == first[1]]) for _ in range(group - 1)]
    elif plan < 0.62:
        kinds = [first] + [pick([p for p in pairs if p[0] == first[0]]) for _ in range(group - 1)]
    else:
        kinds, others = [first], int(rng.integers(0, 7))
    return kinds + [pick(pairs) for _ in range(others)]


def _choose_sizes(rng: np.random.Generator, count: int) -> list[str]:
    """One word of SIZES per item; crowded scenes have few large ones, and one in three has a single size."""
    odds = (0.25, 0.4, 0.35) if count < 3 else (0.38, 0.42, 0.2) if count < 5 else (0.55, 0.37, 0.08)
    sizes = [SIZES[i] for i in rng.choice(3, size=count, p=odds)]
    return sizes[:1] * count if count > 1 and rng.random() < 0.33 else sizes


def _paint_paper(rng: np.random.Generator, size: tuple[int, int], rgb: Rgb) -> Image.Image:
    """A background that stays within SHADE levels or so of `rgb`: plain, a gradient, stripes or noise."""
    width, height = size
    tint = tuple(int(v) for v in np.clip(np.add(rgb, rng.integers(-5, 6, 3)), 0, 255))
    image = Image.new("RGB", size, tint)
    style = rng.choice(["plain", "gradient", "stripes", "noise"], p=[0.4, 0.25, 0.15, 0.2])
    if style == "plain":
        return image
    other = tuple(int(v) for v in np.clip(np.add(tint, rng.choice([-1, 1]) * SHADE), 0, 255))
    if style == "noise":
        grain = rng.integers(0, SHADE, (height, width), dtype=np.uint8)
        return ImageChops.add(image, Image.fromarray(grain).convert("RGB"), offset=-SHADE // 2)
    angle = rng.uniform(0, 2 * np.pi)
    across = np.cos(angle) * np.arange(width)[None] / width + np.sin(angle) * np.arange(height)[:, None] / height
    if style == "stripes":
        across = 0.5 + 0.5 * np.sin(across.astype(np.float32) * rng.uniform(30, 120))
    low, high = float(across.min()), float(across.max())
    mask = Image.fromarray(((across - low) * (255 / (high - low))).astype(np.uint8))
    image.paste(other, mask=mask)
    return image


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


class _Canvas:
    """An image under way: what stands on it already, and where something still fits."""

    def __init__(self, rng: np.random.Generator, image: Image.Image) -> None:
        self.rng, self.image = rng, image
        self.index = Image.new("L", image.size)
        self.items: list[Item] = []
        self.taken: list[tuple[int, int, int, int]] = []
        self.longer = max(image.size)
        self.gap = int(np.ceil(GAP * self.longer))

    def find_place(self, width: int, height: int) -> tuple[int, int] | None:
        """A left and top at which a box of this size keeps its distance from all others, or None."""
        right, bottom = self.image.width - width - 2, self.image.height - height - 2
        if right < 2 or bottom < 2:
            return None
        gap = self.gap
        for x, y in self.rng.integers((2, 2), (right + 1, bottom + 1), (TRIES, 2)).tolist():
            edge_x, edge_y = x + width + gap, y + height + gap
            if all(edge_x <= x0 or x1 + gap <= x or edge_y <= y0 or y1 + gap <= y for x0, y0, x1, y1 in self.taken):
                self.taken.append((x, y, x + width, y + height))
                return x, y
        return None

    def draw_items(self, kinds: Sequence[Kind], sizes: Sequence[str]) -> None:
        """Draw each item that finds a place, and leave out those that do not."""
        for (colour, kind), size in zip(kinds, sizes, strict=True):
            fill, edge = _stencil(self.rng, kind, round(self.longer * self.rng.uniform(*EXTENT[size])))
            place = self.find_place(*fill.size)
            if place is None:
                continue
            rgb = np.clip(np.add(COLOURS[colour], self.rng.integers(-9, 10, 3)), 0, 255)
            self.image.paste(tuple(rgb.tolist()), place, fill)
            if edge is not None:
                self.image.paste(tuple((rgb * 0.6).astype(int).tolist()), place, edge)
            visible = fill.point(lambda v: 255 * (v >= 128))
            self.index.paste(len(self.items) + 1, place, visible)
            left, top, right, bottom = visible.getbbox() or (0, 0, 0, 0)
            x, y = place
            self.items.append(Item(kind, colour, size, Box(x + left, y + top, x + right, y + bottom)))

    def draw_lettering(self, inks: Sequence[Rgb]) -> Lettering | None:
        """A number or a word in one of the inks, its letters at least 0.10 of the longer side high; None: no room."""
        rng = self.rng
        text = str(rng.integers(10 ** rng.integers(1, 4))) if rng.random() < 0.5 else WORDS[rng.integers(len(WORDS))]
        ink, weight = inks[int(rng.integers(len(inks)))], rng.choice([0, 0.03, 0.06])
        for height in (rng.uniform(0.11, 0.24), 0.105):
            font = _font(int(np.ceil(height * self.longer / 0.7)))
            stroke = round(weight * height * self.longer)
            boxes = _set_type(font, text, stroke, spacing=round(0.01 * self.longer) + 1)
            width, tall = boxes[-1].right, max(box.bottom for box in boxes)
            place = self.find_place(width, tall)
            if place is not None:
                break
        else:
            return None
        x, y = place
        pen, letters = ImageDraw.Draw(self.image), []
        for j, (letter, box) in enumerate(zip(text, boxes, strict=True)):
            dx, dy = font.getbbox(letter, stroke_width=stroke)[:2]
            pen.text((x + box.left - dx, y + box.top - dy), letter, ink, font, stroke_width=stroke)
            at = Box(x + box.left, y + box.top, x + box.right, y + box.bottom)
            self.index.paste(101 + j, (at.left, at.top, at.right, at.bottom))
            letters.append(at)
        return Lettering(text, Box(x, y, x + width, y + tall), tuple(letters))

    def draw_letters(self, inks: Sequence[Rgb], count: int) -> Lettering:
        """Up to `count` single capitals and digits, each at a place of its own, as one lettering."""
        rng, text = self.rng, ""
        letters: list[Box] = []
        for _ in range(count):
            letter = LETTERS[rng.integers(len(LETTERS))]
            font = _font(int(np.ceil(rng.uniform(0.1, 0.22) * self.longer / 0.7)))
            stroke = int(rng.integers(0, 3))
            left, top, right, bottom = (int(v) for v in font.getbbox(letter, stroke_width=stroke))
            place = self.find_place(right - left, bottom - top)
            if place is None:
                continue
            x, y = place
            ink = inks[int(rng.integers(len(inks)))]
            ImageDraw.Draw(self.image).text((x - left, y - top), letter, ink, font, stroke_width=stroke)
            at = Box(x, y, x + right - left, y + bottom - top)
            self.index.paste(101 + len(letters), (at.left, at.top, at.right, at.bottom))
            letters.append(at)
            text += letter
        return Lettering(text, Box(0, 0, *self.image.size), tuple(letters))


def _set_type(font: ImageFont.FreeTypeFont, text: str, stroke: int, spacing: int) -> list[Box]:
    """The ink of each letter, side by side on one baseline; the line's left and top are 0."""
    inks = [tuple(int(v) for v in font.getbbox(letter, stroke_width=stroke)) for letter in text]
    top, x, boxes = min(ink[1] for ink in inks), 0, []
    for left, up, right, down in inks:
        boxes.append(Box(x, up - top, x + right - left, down - top))
        x += right - left + spacing
    return boxes


def _stencil(rng: np.random.Generator, kind: str, extent: int) -> tuple[Image.Image, Image.Image | None]:
    """What a shape covers and, for some, its thin edge: masks whose longer side is `extent` pixels."""
    points = outline(kind, float(rng.uniform(-1, 1)) * TILT[kind])
    points = (points * 2 * extent).astype(np.float32)
    right, bottom = np.ceil(points.max(0) / 2).astype(int).tolist()
    canvas = (2 * right, 2 * bottom)
    fill = Image.new("L", canvas)
    pen, corners = ImageDraw.Draw(fill), [tuple(p) for p in points.tolist()]
    pen.polygon(corners, fill=255)
    middle = points.max(0) / 2
    hole = [tuple(p) for p in ((points - middle) * RING_HOLE + middle).tolist()]
    if kind == "ring":
        pen.polygon(hole, fill=0)
    edge = None
    if rng.random() < 0.3:
        edge = Image.new("L", canvas)
        pen, width = ImageDraw.Draw(edge), max(4, round(0.07 * extent))
        for loop in (corners, hole) if kind == "ring" else (corners,):
            pen.line([*loop, loop[0]], fill=255, width=width, joint="curve")
        edge = ImageChops.darker(edge, fill).reduce(2)
    return fill.reduce(2), edge
