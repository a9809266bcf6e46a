"""Matching: where in an image something stands that has the shape of a reference picture, whatever its colours.

Knows pixels, edges and boxes. Does not know tiles, models or language.

Edges are counted by unsigned direction in small cells, as in histograms of oriented gradients (Dalal and Triggs 2005), so that
other colours, light and outlines change little; the reference's cells, at every size and turn that is considered, slide over
the image's by normalised correlation. What is covered costs its share and no more. An image of any size is read in parts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from vision.tiling import Box, plan_tiles

CELL = 4
COARSE, FINE = 32, 64
"""The longer side in pixels, at which the reference slides over the whole image, and at which the best places are compared."""

ENLARGED = 1.6
"""How far the image is enlarged at most where the thing has fewer pixels than `COARSE`."""

SIZES = tuple(float(2 ** (step / 3)) for step in range(-3, 4))
"""How many times smaller the thing may be in the image than in the reference."""

TURNS = (-18.0, -9.0, 0.0, 9.0, 18.0)
FINE_TURNS = (-20.0, -14.0, -8.0, -4.0, 0.0, 4.0, 8.0, 14.0, 20.0)
FINE_SIZES = (0.84, 0.92, 1.0, 1.09, 1.19)

SMALLEST = 10
"""Pixels of the image that a thing must have to be looked for: below this a shape is no more than a few cells."""

NOISE = 0.02
PART = 2048
REACH = 4


@dataclass(frozen=True)
class Match:
    """A place that looks like the reference: its box in the image's pixels, and the correlation there, -1 to 1."""

    box: Box
    score: float


def edges(pixels: NDArray[np.float32]) -> torch.Tensor:
    """(n, height, width, 3) in [0, 1] -> (n, 4, height // CELL, width // CELL), each cell of about unit length.

    The channels are the cosine and sine of twice and of four times the edge's angle, from the colour gradient's structure
    tensor (Di Zenzo 1986): a smooth stand-in for bins of unsigned directions.
    """
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    padded = functional.pad(image, (1, 1, 1, 1), mode="replicate")
    dx, dy = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    xx, yy, xy = (dx * dx).sum(1), (dy * dy).sum(1), (dx * dy).sum(1)
    power = xx + yy + 1e-9
    cosine, sine = (xx - yy) / power, 2 * xy / power
    # A faint edge is one too, so its root counts; the grain of a photograph is none.
    weight = (power.sqrt() - NOISE).clamp(min=0).sqrt()
    harmonics = torch.stack([cosine, sine, 2 * cosine**2 - 1, 2 * cosine * sine], 1)
    cells = functional.avg_pool2d(harmonics * weight[:, None], CELL)
    energy = functional.avg_pool2d((cells**2).sum(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    return torch.as_tensor(cells / (energy.sqrt() + NOISE))


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


def template(reference: Image.Image, longest: float, turn: float) -> Template:
    """The reference with its longer side at `longest` pixels, turned, with a cell of its own ground around it."""
    scale = longest / max(reference.size)
    size = (max(4, round(reference.width * scale)), max(4, round(reference.height * scale)))
    small = np.asarray(reference.resize(size, Image.Resampling.BICUBIC, reducing_gap=3).convert("RGB"))
    room = max(size)
    wide = Image.fromarray(np.pad(small, ((room, room), (room, room), (0, 0)), "edge"))
    turned = wide.rotate(turn, Image.Resampling.BICUBIC)
    angle = np.deg2rad(abs(turn))
    width = size[0] * np.cos(angle) + size[1] * np.sin(angle)
    height = size[1] * np.cos(angle) + size[0] * np.sin(angle)
    columns, rows = ceil(width / CELL) + 1, ceil(height / CELL) + 1
    left, top = round(wide.width / 2 - columns * CELL / 2), round(wide.height / 2 - rows * CELL / 2)
    cells = edges(_floats(turned.crop((left, top, left + columns * CELL, top + rows * CELL)))[None])[0]
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


@torch.inference_mode()
def find_matches(image: Image.Image, reference: Image.Image, most: int = 84) -> Iterator[tuple[float, list[Match]]]:
    """The share of the work that is done, and the best places so far, best first; the last list is compared closely.

    Every size brings an equal share of the `most` places: the fewer cells a thing has, the higher chance correlates with it,
    and the places of the smallest size would crowd out all others.
    """
    thing = foreground(reference)
    found: dict[float, list[Match]] = {}
    lengths = [max(thing.size) / size for size in SIZES]
    lengths = [length for length in lengths if SMALLEST <= length <= 1.5 * max(image.size)]
    share = ceil(most / max(1, len(lengths)))
    groups = [(scale, list(group)) for scale, group in groupby(lengths, lambda length: min(ENLARGED, COARSE / length))]
    for number, (scale, group) in enumerate(groups, start=1):
        for done, places in _slide(image, thing, scale, group, share):
            for length in places:
                found[length] = _apart([*found.get(length, ()), *places[length]])[:share]
            yield (number - 1 + done) / len(groups) * 0.95, _apart(chain.from_iterable(found.values()))
    yield 1.0, refine(image, thing, [*chain.from_iterable(found.values())])


def _slide(
    image: Image.Image, thing: Image.Image, scale: float, lengths: Sequence[float], most: int
) -> Iterator[tuple[float, dict[float, list[Match]]]]:
    """Part by part, the share that is done and the places for the thing with its longer side at each of `lengths` pixels."""
    banks = [[template(thing, length * scale, turn) for turn in TURNS] for length in lengths]
    parts = _parts(image, scale, ceil(2 * max(lengths)))
    for number, part in enumerate(parts, start=1):
        cells = _cells(image, part, scale)
        found: dict[float, list[Match]] = {}
        for length, bank in zip(lengths, banks, strict=True):
            scores = correlate(cells, bank)[0].amax(0)
            size = length * np.divide(thing.size, max(thing.size))
            found[length] = list(_peaks(scores, size, scale, part, most))
        yield number / len(parts), found


def _peaks(scores: torch.Tensor, size: NDArray[np.float64], scale: float, part: Box, most: int) -> Iterator[Match]:
    """The highest places of (h, w) correlations that are higher than their neighbours, as boxes of `size`."""
    peaks = (scores == functional.max_pool2d(scores[None], 5, 1, 2)[0]) & (scores > 0)
    rows, columns = torch.nonzero(peaks, as_tuple=True)
    kept = scores[rows, columns].topk(min(most, len(rows)))
    for score, index in zip(kept.values.tolist(), kept.indices.tolist(), strict=True):
        x, y = part.left + (columns[index].item() + 0.5) * CELL / scale, part.top + (rows[index].item() + 0.5) * CELL / scale
        yield Match(_box(x, y, float(size[0]), float(size[1])), score)


def _parts(image: Image.Image, scale: float, overlap: int) -> list[Box]:
    """Squares that cover the image, at most `PART` pixels a side at `scale`, so that memory depends on no image's shape."""
    side = max(int(PART / scale), 3 * overlap)
    return list(plan_tiles(image.size, side, overlap / side))


def _cells(image: Image.Image, part: Box, scale: float) -> torch.Tensor:
    size = (max(CELL, round(part.size[0] * scale)), max(CELL, round(part.size[1] * scale)))
    edge = (part.left, part.top, part.right, part.bottom)
    return edges(_floats(image.resize(size, Image.Resampling.BILINEAR, box=edge, reducing_gap=3))[None])


def refine(image: Image.Image, thing: Image.Image, matches: Sequence[Match]) -> list[Match]:
    """The same places compared at twice the resolution, with finer turns and sizes, best first."""
    if not matches:
        return []
    banks = [template(thing, FINE * size, turn) for size in FINE_SIZES for turn in FINE_TURNS]
    side = int(FINE * 1.6 / CELL) * CELL
    first = side // CELL // 2 - REACH
    crops, scales = [], []
    for match in matches:
        length = max(match.box.size)
        reach = length * side / FINE / 2
        x, y = _centre(match.box)
        crops.append(_floats(_cut(image, (x - reach, y - reach, x + reach, y + reach), side)))
        scales.append(length / FINE)
    better = []
    for start in range(0, len(crops), 16):
        scores = correlate(edges(np.stack(crops[start : start + 16])), banks, REACH)
        for offset, score in enumerate(scores):
            match, scale = matches[start + offset], scales[start + offset]
            best = int(score.argmax())
            bank, row, column = np.unravel_index(best, tuple(score.shape))
            x, y = _centre(match.box)
            x += ((int(column) + first + 0.5) * CELL - side / 2) * scale
            y += ((int(row) + first + 0.5) * CELL - side / 2) * scale
            size = np.multiply(match.box.size, FINE_SIZES[int(bank) // len(FINE_TURNS)])
            better.append(Match(_box(x, y, float(size[0]), float(size[1])), float(score.max())))
    return _apart(better)


def _apart(matches: Iterable[Match]) -> list[Match]:
    """The matches best first, without those whose centre lies within half a size of a better one's."""
    kept: list[Match] = []
    centres = np.empty((0, 2))
    reaches = np.empty(0)
    for match in sorted(matches, key=lambda match: -match.score):
        centre = np.array(_centre(match.box))
        if not len(kept) or (np.abs(centres - centre).max(1) > reaches).all():
            kept.append(match)
            centres, reaches = np.vstack([centres, centre]), np.append(reaches, max(match.box.size) / 2)
    return kept


def _cut(image: Image.Image, edges: tuple[float, float, float, float], side: int) -> Image.Image:
    """A square of the image, black beyond it, at `side` pixels."""
    left, top, right, bottom = edges
    inside = max(0.0, left), max(0.0, top), min(float(image.width), right), min(float(image.height), bottom)
    scale = side / (right - left)
    size = max(1, round((inside[2] - inside[0]) * scale)), max(1, round((inside[3] - inside[1]) * scale))
    part = image.resize(size, Image.Resampling.BILINEAR, box=inside, reducing_gap=3)
    if size == (side, side):
        return part
    at, pixels = (round((inside[0] - left) * scale), round((inside[1] - top) * scale)), np.asarray(part.convert("RGB"))
    room = ((at[1], max(0, side - at[1] - size[1])), (at[0], max(0, side - at[0] - size[0])), (0, 0))
    return Image.fromarray(np.pad(pixels, room, "edge")[:side, :side])


def _floats(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


def _centre(box: Box) -> tuple[float, float]:
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2


def _box(x: float, y: float, width: float, height: float) -> Box:
    left, top = round(x - width / 2), round(y - height / 2)
    return Box(left, top, max(left + 1, round(x + width / 2)), max(top + 1, round(y + height / 2)))
