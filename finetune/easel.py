"""The easel: paper, paint and type for scenes, and a record of what was put where.

Knows how to draw items and letters so that none touches another. Does not know which to draw.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from finetune.outlines import RING_HOLE, TILT, blot, outline
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
SIZES = ("small", "medium", "large")
EXTENT = {"small": (0.09, 0.13), "medium": (0.16, 0.22), "large": (0.28, 0.38)}
"""The longer side of an item's box, as a part of the image's longer side."""
WORDS = (
    "CAT", "DOG", "STOP", "EXIT", "OPEN", "SHOP", "TAXI", "BUS", "CAFE", "HOTEL", "PARK", "BANK",
    "FISH", "MILK", "BREAD", "SUN", "MOON", "BOOK", "TREE", "HELLO", "LEFT", "RIGHT", "YES", "SALE",
)  # fmt: skip
LETTERS = string.ascii_uppercase + string.digits
SHADE = 14  # how far a gradient, stripes or noise may take the background from its colour
GAP = 5 / 336  # between any two things drawn, as a part of the longer side
TRIES = 24

Rgb = tuple[int, int, int]
Kind = tuple[str, str]


@dataclass(frozen=True)
class Item:
    """One shape; `box` holds the pixels that it covers by half or more. A kind or colour that has no name is empty."""

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


def paint_paper(rng: np.random.Generator, size: tuple[int, int], rgb: Rgb) -> Image.Image:
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


class Easel:
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

    def draw_items(self, kinds: Sequence[Kind], paints: Sequence[Rgb], sizes: Sequence[str]) -> None:
        """Draw each item that finds a place, and leave out those that do not; each is painted a little beside its paint."""
        for (colour, kind), paint, size in zip(kinds, paints, sizes, strict=True):
            fill, edge = _stencil(self.rng, kind, round(self.longer * self.rng.uniform(*EXTENT[size])))
            place = self.find_place(*fill.size)
            if place is None:
                continue
            rgb = np.clip(np.add(paint, self.rng.integers(-9, 10, 3)), 0, 255)
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
    points = outline(kind, float(rng.uniform(-1, 1)) * TILT[kind]) if kind else blot(rng)
    points = (points * 2 * extent).astype(np.float32)
    right, bottom = np.ceil(points.max(0) / 2).astype(int).tolist()
    canvas = (2 * right, 2 * bottom)
    fill = Image.new("L", canvas)
    pen, corners = ImageDraw.Draw(fill), [tuple(p) for p in points.tolist()]
    pen.polygon(corners, fill=255)
    middle = points.max(0) / 2
    hole = [tuple(p) for p in ((points - middle) * RING_HOLE + middle).tolist()]
    if kind == "ring" or (not kind and rng.random() < 0.4):
        pen.polygon(hole, fill=0)
    edge = None
    if rng.random() < 0.3:
        edge = Image.new("L", canvas)
        pen, width = ImageDraw.Draw(edge), max(4, round(0.07 * extent))
        for loop in (corners, hole) if kind == "ring" else (corners,):
            pen.line([*loop, loop[0]], fill=255, width=width, joint="curve")
        edge = ImageChops.darker(edge, fill).reduce(2)
    return fill.reduce(2), edge
