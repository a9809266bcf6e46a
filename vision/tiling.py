"""Tiles: where to look in an image that is larger than the model's input.

Knows boxes and pixels. Does not know models, prompts or files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from PIL import Image


@dataclass(frozen=True)
class Box:
    """A rectangle in the pixels of the study's image; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top

    @property
    def corners(self) -> list[int]:
        """[left, top, right, bottom], as JSON holds a box."""
        return [self.left, self.top, self.right, self.bottom]

    def clipped(self, image_size: tuple[int, int]) -> "Box":
        """The part that lies in an image of (width, height); raises ValueError when nothing does."""
        width, height = image_size
        box = Box(max(0, self.left), max(0, self.top), min(width, self.right), min(height, self.bottom))
        if box.left >= box.right or box.top >= box.bottom:
            raise ValueError(f"The box {self} lies outside an image of {width} x {height} pixels.")
        return box


@dataclass(frozen=True)
class Tile:
    """The pixels of one box of a study's image."""

    box: Box
    image: Image.Image


def plan_tiles(image_size: tuple[int, int], tile: int, overlap: float) -> Iterator[Box]:
    """Boxes of `tile` pixels a side that cover an image of (width, height), row by row, evenly spread.

    Neighbours share at least `overlap` of a side (never all of it: one pixel is always new), so anything up to
    `overlap * tile` pixels stands whole in some tile. A side shorter than a tile is taken whole. Raises ValueError
    unless 0 <= overlap < 1, tile >= 1 and the image has a pixel.
    """
    if not 0 <= overlap < 1 or tile < 1 or min(image_size) < 1:
        width, height = image_size
        raise ValueError(f"Tiles of {tile} pixels with an overlap of {overlap} cannot cover {width} x {height} pixels.")
    return _boxes(image_size, tile, step=max(1, tile - ceil(overlap * tile)))


def _boxes(image_size: tuple[int, int], tile: int, step: int) -> Iterator[Box]:
    width, height = image_size
    for top in _starts(height, tile, step):
        for left in _starts(width, tile, step):
            yield Box(left, top, min(width, left + tile), min(height, top + tile))


def _starts(length: int, tile: int, step: int) -> Iterator[int]:
    """Where tiles begin along one side: from 0 to the last that fits, at most `step` apart."""
    slack = max(0, length - tile)
    gaps = ceil(slack / step)
    return (i * slack // gaps if gaps else 0 for i in range(gaps + 1))


def cut(image: Image.Image, box: Box) -> Tile:
    """The tile of `image` at `box`, clipped to the image; raises ValueError when it lies outside."""
    inside = box.clipped(image.size)
    # Not `crop`, which holds a box against Pillow's own limit for files; at an equal size this copies the same pixels.
    edges = (inside.left, inside.top, inside.right, inside.bottom)
    return Tile(inside, image.resize(inside.size, Image.Resampling.NEAREST, box=edges))


def even_tiles(image_size: tuple[int, int], most: int, overlap: float = 0.09) -> list[Box]:
    """At most `most` tiles of one size that cover an image of (width, height), the smallest that suffice; none below two."""
    longer = max(image_size)
    best: list[Box] = []
    for parts in range(2, most + 1):
        boxes = list(plan_tiles(image_size, ceil(longer / (parts - overlap * (parts - 1))), overlap))
        if len(boxes) <= most:
            best = boxes
    return best


def around(box: Box, side: int, image_size: tuple[int, int]) -> Box:
    """A square about the centre of `box`, a quarter larger and at least `side` pixels, moved and cut to fit the image."""
    length = max(side, *(ceil(1.25 * size) for size in box.size))
    starts = []
    for low, high, whole in ((box.left, box.right, image_size[0]), (box.top, box.bottom, image_size[1])):
        starts.append(max(0, min((low + high - length) // 2, whole - length)))
    return Box(starts[0], starts[1], starts[0] + length, starts[1] + length).clipped(image_size)
