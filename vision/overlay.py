"""Overlays: saliency maps, masks and boxes drawn on a study's image, for a person's eyes or as one more view.

Knows pixels, maps, masks and boxes. Does not know where they came from, what they mean, or language. What is drawn
has the image's shape with the longer side at most `longest` pixels, so a study of any size costs a screenful.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from vision.evidence import Heatmap, Mask
from vision.tiling import Box

LONGEST = 1024
GAP = 8

Colour = tuple[int, int, int]

_INFERNO = "000004 0c0826 240c4f 420a68 5d126e 781c6d 932667 ae305c c73e4c dd513a ed6925 f8850f fca50a fac62d f2e661 fcffa4"
"""matplotlib's perceptually uniform colour map inferno (Smith and van der Walt 2015, CC0), sampled at 16 even steps."""

_TABLE = np.array([list(bytes.fromhex(colour)) for colour in _INFERNO.split()], np.float32)

PALETTE: tuple[Colour, ...] = (
    (86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
"""Colours that stay apart for the colour-blind (Okabe and Ito 2008), the ones that stand out on a film first."""

GREY: Colour = (110, 110, 110)
WHITE: Colour = (255, 255, 255)


def shown_size(size: tuple[int, int], longest: int = LONGEST) -> tuple[int, int]:
    """The (width, height) that an image of `size` is drawn at: never enlarged, no side under a pixel."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shown_box(box: Box, size: tuple[int, int], shown: tuple[int, int]) -> Box:
    """The pixels, in a drawing of (width, height) `shown`, that `box` of an image of `size` touches.

    Raises ValueError when the box lies outside the image.
    """
    inside, (x, y) = box.clipped(size), size
    right, bottom = -(-inside.right * shown[0] // x), -(-inside.bottom * shown[1] // y)
    return Box(inside.left * shown[0] // x, inside.top * shown[1] // y, right, bottom)


def draw_heatmap(
    image: Image.Image,
    heatmap: Heatmap,
    opacity: float = 0.5,
    contour: bool = True,
    trusted: bool = True,
    longest: int = LONGEST,
) -> Image.Image:
    """The map in colour on the image, grey where it is not `trusted`; `contour` draws the line at half of its maximum.

    A pixel is covered by `opacity` times the map's value there, so what the map passes over stays as it is. A map of
    zeros draws nothing. Raises ValueError unless 0 <= opacity <= 1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"The opacity is {opacity}; it lies between 0 and 1.")
    film = _shown(image, longest)
    values = np.clip(np.nan_to_num(heatmap.at(film.size)), 0, 1)
    painted = film
    if opacity:
        cover = Image.fromarray(np.rint(255 * opacity * values).astype(np.uint8))
        painted = Image.composite(_coloured(values, trusted), film, cover)
    if contour and values.max() > 0:
        painted = _outlined(painted, values >= values.max() / 2, PALETTE[0] if trusted else WHITE)
    return painted


def draw_masks(image: Image.Image, masks: Sequence[Mask], longest: int = LONGEST) -> Image.Image:
    """The outline of each mask, one colour per label in the order in which they come, on the image.

    A mask covers each drawn pixel that it touches; the image's own edge is no outline. Raises ValueError for a mask of
    another size than the image.
    """
    drawn = _shown(image, longest)
    labels = list(dict.fromkeys(mask.label for mask in masks))
    for mask in masks:
        if mask.values.shape != image.size[::-1]:
            height, width = mask.values.shape
            raise ValueError(f"A mask of {width} x {height} does not fit an image of {image.width} x {image.height} pixels.")
        touched = _touched(_touched(mask.values, drawn.height).T, drawn.width).T
        drawn = _outlined(drawn, touched, colour_of(labels, mask.label))
    return drawn


def colour_of(labels: Sequence[str], label: str) -> Colour:
    """The colour in which `draw_masks` draws the masks of one of its labels; the palette's first is a heatmap's contour."""
    return PALETTE[(labels.index(label) + 1) % len(PALETTE)]


def draw_boxes(
    image: Image.Image, boxes: Sequence[Box], frame: tuple[int, int] | None = None, longest: int = LONGEST
) -> Image.Image:
    """The boxes' outlines, on the inner side, each in the next colour of the palette.

    The boxes are in the pixels of an image of (width, height) `frame`, which is the study's where `image` is already an
    overlay; without it they are in `image`'s own. Raises ValueError when one lies outside.
    """
    drawn = _shown(image, longest).copy()
    width = _line_width(drawn.size)
    for number, box in enumerate(boxes):
        b = shown_box(box, frame or image.size, drawn.size)
        inner = (b.left + width, b.top + width, b.right - width, b.bottom - width)
        kept = drawn.crop(inner) if inner[0] < inner[2] and inner[1] < inner[3] else None
        drawn.paste(PALETTE[number % len(PALETTE)], (b.left, b.top, b.right, b.bottom))
        if kept:
            drawn.paste(kept, inner)
    return drawn


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """The images in one row on black, their tops level, `GAP` pixels between them; none of them resized.

    Raises ValueError without an image.
    """
    if not images:
        raise ValueError("There is no image to put side by side.")
    row = Image.new("RGB", (sum(i.width for i in images) + GAP * (len(images) - 1), max(i.height for i in images)))
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + GAP
    return row


def _shown(image: Image.Image, longest: int) -> Image.Image:
    size = shown_size(image.size, longest)
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    return small.convert("RGB")


def _coloured(values: NDArray[np.float32], trusted: bool) -> Image.Image:
    if not trusted:
        return Image.new("RGB", values.shape[::-1], GREY)
    steps = np.linspace(0, 1, len(_TABLE))
    table = np.stack([np.interp(np.arange(256) / 255, steps, _TABLE[:, band]) for band in range(3)], axis=1)
    return Image.fromarray(np.rint(table).astype(np.uint8)[np.rint(255 * values).astype(np.uint8)])


def _touched(values: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """(n, m) -> (count, m): whether anything is True in the rows that each of `count` equal bands touches."""
    rows = len(values)
    return np.stack([values[i * rows // count : -(-(i + 1) * rows // count)].any(0) for i in range(count)])


def _outlined(image: Image.Image, region: NDArray[np.bool_], colour: Colour) -> Image.Image:
    """`image` with the inner rim of `region`, bool (height, width), in `colour`."""
    inside = Image.fromarray(region.astype(np.uint8) * 255)
    rim = ImageChops.subtract(inside, inside.filter(ImageFilter.MinFilter(2 * _line_width(image.size) + 1)))
    return Image.composite(Image.new("RGB", image.size, colour), image, rim)


def _line_width(size: tuple[int, int]) -> int:
    return ceil(max(size) / 400)
