"""Edges: what two pictures are compared by, whatever their colours: cells of edge directions, and how they correlate.

Knows pixels, edges and cells. Does not know where in an image anything stands, tiles, models or language.

Edges are counted by unsigned direction in small cells, as in histograms of oriented gradients (Dalal and Triggs 2005), so that
other colours, light and outlines change little. What is covered costs its share and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.nn import functional

CELL = 4
STRIP, STRIP_PIXELS = 24, 1 << 16
"""Rows that are worked on at once, a multiple of every cell's, and about how many pixels: what those need on the way fits into
the processor's cache."""

NOISE = 0.02
EDGE, ALIKE = 0.5, 0.7
"""The length from which on a cell shows an edge, and the cosine from which on two run alike."""


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image.convert("RGB"))  # a copy, for torch may not have what cannot be written to


def edges(pixels: NDArray[np.uint8], cell: int = CELL) -> torch.Tensor:
    """(n, height, width, 3) -> (n, 4, height // cell, width // cell), each cell of about unit length.

    The channels are the cosine and sine of twice and of four times the edge's angle, from the colour gradient's structure
    tensor (Di Zenzo 1986): a smooth stand-in for bins of unsigned directions.
    """
    return edges_in_cells(pixels, (cell,))[0]


def edges_in_cells(pixels: NDArray[np.uint8], sides: Sequence[int]) -> list[torch.Tensor]:
    """As `edges`, in cells of several sides: divisors of `STRIP`, none larger than the picture."""
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    count, _, height, width = image.shape
    rows = max(1, STRIP_PIXELS // (count * width * STRIP)) * STRIP
    strips: list[list[torch.Tensor]] = [[] for _ in sides]
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        within = image[:, :, max(0, top - 1) : bottom + 1].to(torch.float32, memory_format=torch.contiguous_format) / 255
        found = _directions(functional.pad(within, (1, 1, int(top == 0), int(bottom == height)), mode="replicate"))
        for strip, side in zip(strips, sides, strict=True):
            if bottom - top >= side:
                strip.append(functional.avg_pool2d(found, side))
    return [_levelled(torch.cat(strip, 2)) for strip in strips]


def _levelled(cells: torch.Tensor) -> torch.Tensor:
    """By the strength of the edges about each cell."""
    energy = functional.avg_pool2d((cells**2).sum(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    return cells / (energy.sqrt() + NOISE)


def _directions(padded: torch.Tensor) -> torch.Tensor:
    """(n, 3, 2 + height, 2 + width) in [0, 1] -> (n, 4, height, width), of any length."""
    dx, dy = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    xx, yy, xy = (dx * dx).sum(1), (dy * dy).sum(1), (dx * dy).sum(1)
    power = xx + yy + 1e-9
    cosine, sine = (xx - yy) / power, 2 * xy / power
    # A faint edge is one too, so its root counts; the grain of a photograph is none.
    weight = (power.sqrt() - NOISE).clamp(min=0).sqrt()
    harmonics = torch.stack([cosine, sine, 2 * cosine**2 - 1, 2 * cosine * sine], 1)
    return harmonics * weight[:, None]


@dataclass(frozen=True)
class Template:
    """One size and turn of the reference: its cells, and which of them count as the thing."""

    cells: torch.Tensor
    mask: torch.Tensor


def foreground(reference: Image.Image) -> Image.Image:
    """The reference without plain margins, cut to what stands out from the colours along its border; else itself."""
    small = reference.convert("RGB")
    small.thumbnail((96, 96))
    pixels = np.asarray(small, np.float32)
    rows, columns = _busy(pixels), _busy(pixels.swapaxes(0, 1))
    inner = pixels[rows[0] : rows[1], columns[0] : columns[1]]
    if min(inner.shape[:2]) < 8:
        return reference
    border = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    apart = np.abs(inner - np.median(border, axis=0)).max(2)
    spread = float(np.median(np.abs(border - np.median(border, axis=0)).max(1)))
    stands_out = ndimage.binary_opening(apart > max(18.0, 3 * spread))
    if spread < 30 and stands_out.mean() > 0.1:
        ys, xs = np.flatnonzero(stands_out.any(1)), np.flatnonzero(stands_out.any(0))
        rows, columns = (rows[0] + ys[0], rows[0] + ys[-1] + 1), (columns[0] + xs[0], columns[0] + xs[-1] + 1)
    x, y = reference.width / small.width, reference.height / small.height
    edge = (int(columns[0] * x), int(rows[0] * y), ceil(columns[1] * x), ceil(rows[1] * y))
    return reference.crop(edge) if edge[2] - edge[0] >= 4 and edge[3] - edge[1] >= 4 else reference


def _busy(pixels: NDArray[np.float32]) -> tuple[int, int]:
    """From the first to behind the last row whose colours differ; all rows where none does."""
    busy = np.flatnonzero(pixels.std(axis=1).max(axis=1) > 16)
    return (int(busy[0]), int(busy[-1]) + 1) if len(busy) else (0, len(pixels))


def template(reference: Image.Image, longest: float, turn: float, cell: int = CELL) -> Template:
    """The reference with its longer side at `longest` pixels, turned, with a cell of its own ground around it."""
    scale = longest / max(reference.size)
    size = (max(4, round(reference.width * scale)), max(4, round(reference.height * scale)))
    small = np.asarray(reference.resize(size, Image.Resampling.BICUBIC, reducing_gap=3).convert("RGB"))
    angle = np.deg2rad(abs(turn))
    room = ceil(max(size) * np.sin(angle)) + 2 * cell  # of the corners that a turn brings in
    wide = Image.fromarray(np.pad(small, ((room, room), (room, room), (0, 0)), "edge"))
    turned = wide.rotate(turn, Image.Resampling.BICUBIC)
    width = size[0] * np.cos(angle) + size[1] * np.sin(angle)
    height = size[1] * np.cos(angle) + size[0] * np.sin(angle)
    columns, rows = ceil(width / cell) + 1, ceil(height / cell) + 1
    left, top = round(wide.width / 2 - columns * cell / 2), round(wide.height / 2 - rows * cell / 2)
    cells = edges(to_pixels(turned.crop((left, top, left + columns * cell, top + rows * cell)))[None], cell)[0]
    strong = (cells**2).sum(0).numpy() > 0.1
    mask = ndimage.binary_fill_holes(ndimage.binary_dilation(strong))
    return Template(cells * torch.from_numpy(mask), torch.from_numpy(mask).float())


def correlate(cells: torch.Tensor, templates: Sequence[Template], reach: int | None = None) -> torch.Tensor:
    """(n, d, h, w) and k templates -> (n, k, h, w) correlations, the template's middle cell at the place.

    With `reach` only those of the 2 * reach x 2 * reach places about the middle of (h, w).
    """
    rows, columns = (max(t.mask.shape[i] for t in templates) for i in (0, 1))
    banks = []
    for t in templates:
        down, right = rows - t.mask.shape[0], columns - t.mask.shape[1]
        around = (right // 2, right - right // 2, down // 2, down - down // 2)
        banks.append((functional.pad(t.cells, around), functional.pad(t.mask, around)))
    shapes = torch.stack([cells for cells, _ in banks])
    lengths = shapes.flatten(1).norm(dim=1)[:, None, None] + 1e-6
    masks = torch.stack([mask for _, mask in banks])[:, None]
    padded = functional.pad(cells, ((columns - 1) // 2, columns // 2, (rows - 1) // 2, rows // 2))
    if reach is not None:
        top, left = (max(0, cells.shape[i] // 2 - reach) for i in (2, 3))
        padded = padded[:, :, top : top + 2 * reach + rows - 1, left : left + 2 * reach + columns - 1]
    energy = functional.conv2d((padded**2).sum(1, keepdim=True), masks)
    least = 0.15 * masks.sum((1, 2, 3))[:, None, None]  # a few faint cells on nothing are no match
    scores: torch.Tensor = functional.conv2d(padded, shapes) / lengths / torch.maximum(energy, least).sqrt()
    return scores


def agree(cells: torch.Tensor, wanted: Template, middle: tuple[int, int]) -> tuple[float, float]:
    """Of the edges of a template whose middle cell lies at `middle` of (d, h, w) cells, or beside it, the share that is met by
    one that runs alike; and of those that are met by any the share that run alike. Both 0 to 1.
    """
    height, width = wanted.mask.shape
    top, left = middle[0] + height - (height - 1) // 2, middle[1] + width - (width - 1) // 2
    room, length = functional.pad(cells, (width, width, height, height)), wanted.cells.norm(dim=0)
    places = (room[:, top + y : top + y + height, left + x : left + x + width] for y, x in product((-1, 0, 1), repeat=2))
    here = max(places, key=lambda place: float((place * wanted.cells).sum()))
    lengths, strong = here.norm(dim=0), length > EDGE
    alike = strong & ((here * wanted.cells).sum(0) > ALIKE * length * lengths)
    both = strong & (lengths > EDGE)
    return _share(alike, strong), _share(alike & both, both)


def _share(part: torch.Tensor, whole: torch.Tensor) -> float:
    return float(part.sum() / whole.sum().clamp(min=1))
