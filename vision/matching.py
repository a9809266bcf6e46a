"""Matching: where in an image something stands that has the shape of a reference picture, whatever its colours.

Knows cells of edges and boxes. Does not know tiles, models or language.

The reference's cells of edges, at every size and turn that is considered, slide over the image's by normalised correlation.
An image of any size is read in parts. The best places are laid under the reference and judged by a small network.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from vision.edges import CELL, agree, correlate, edges, edges_in_cells, foreground, template, to_pixels
from vision.tiling import Box, plan_tiles
from vision.verifier import SIDE, WAYS, load_verifier

COARSE, FINE = 32, 64
"""The longer side in pixels, at which the reference slides over the whole image, and at which the best places are compared."""

LEAST_CELL = 2
"""Pixels of a cell's side where the thing has so few that they would fill too few cells: the image is never enlarged."""

SIZES = tuple(float(2 ** (step / 3)) for step in range(-3, 4))
"""How many times smaller the thing may be in the image than in the reference."""

TURNS = (-18.0, -9.0, 0.0, 9.0, 18.0)
FINE_TURNS = (-20.0, -14.0, -8.0, -4.0, 0.0, 4.0, 8.0, 14.0, 20.0)
FINE_SIZES = (0.84, 0.92, 1.0, 1.09, 1.19)

SMALLEST = 10
"""Pixels of the image that a thing must have to be looked for: below this a shape is no more than a few cells."""

USUAL = {"score": 0.25, "met": 0.25, "alike": -4.0}
"""What the next best places come to, where there are none."""

CLOSELY = 12
"""The likeliest places are judged in each of the ways in which both pictures can be turned and mirrored."""

PART = 2048
REACH = 4


@dataclass(frozen=True)
class Match:
    """A place that looks like the reference: its box in the image's pixels, and the correlation there, -1 to 1.

    `met` is the share of the reference's edges that are met by one that runs alike, `agreement` that share among those that are
    met by any: the two together tell a shape of which parts are covered, or lost their edge to other colours, from another
    shape. Both are 0 to 1. `turn` is the reference's, in degrees counterclockwise; `alike` the log-odds, by `vision.verifier`,
    that both are the same thing. All four are 0 before the last comparison.
    """

    box: Box
    score: float
    met: float = 0.0
    agreement: float = 0.0
    turn: float = 0.0
    alike: float = 0.0


@dataclass(frozen=True)
class Likeness:
    """What speaks for a place, given the others: its correlation, how far that stands above the next ones, how far the share of
    edges that are met does, the share of edges that agree, the verifier's log-odds, and how far they stand above the next ones.
    """

    match: float
    margin: float
    lead: float
    agreement: float
    alike: float
    apart: float


def compare(matches: Sequence[Match]) -> list[Likeness]:
    """What speaks for each of the places that were found in one image."""
    next_best = [_next_best([getattr(match, name) for match in matches], usual) for name, usual in USUAL.items()]
    found = []
    for m in matches:
        margin, lead, apart = np.subtract((m.score, m.met, m.alike), next_best).tolist()
        found.append(Likeness(m.score, margin, lead, m.agreement, m.alike, apart))
    return found


def _next_best(values: Sequence[float], usual: float) -> float:
    """The mean of the third to the sixth best, so that a thing that is there twice stands out too."""
    among = sorted(values, reverse=True)[2:6] or [usual]
    return sum(among) / len(among)


@torch.inference_mode()
def find_matches(
    image: Image.Image, reference: Image.Image, most: int = 84, is_verified: bool = True
) -> Iterator[tuple[float, list[Match]]]:
    """The share of the work that is done, and the best places so far, best first; the last list is compared closely, and by the
    verifier unless that is what is being taught. Raises CheckpointError where its weights are missing.

    Every size brings an equal share of the `most` places: the fewer cells a thing has, the higher chance correlates with it,
    and the places of the smallest size would crowd out all others.
    """
    thing = foreground(reference)
    found: dict[float, list[Match]] = {}
    lengths = [max(thing.size) / size for size in SIZES]
    lengths = [length for length in lengths if SMALLEST <= length <= 1.5 * max(image.size)]
    share = ceil(most / max(1, len(lengths)))
    groups = [(scale, list(group)) for scale, group in groupby(lengths, lambda length: min(1.0, COARSE / length))]
    for number, (scale, group) in enumerate(groups, start=1):
        for done, places in _slide(image, thing, scale, group, share):
            for length in places:
                found[length] = _apart([*found.get(length, ()), *places[length]])[:share]
            yield (number - 1 + done) / len(groups) * 0.95, _apart(chain.from_iterable(found.values()))
    refined = refine(image, thing, [*chain.from_iterable(found.values())])
    yield 1.0, verify(image, thing, refined) if is_verified else refined


def _slide(
    image: Image.Image, thing: Image.Image, scale: float, lengths: Sequence[float], most: int
) -> Iterator[tuple[float, dict[float, list[Match]]]]:
    """Part by part, the share that is done and the places for the thing with its longer side at each of `lengths` pixels."""
    sides = [max(LEAST_CELL, round(CELL * length * scale / COARSE)) for length in lengths]
    banks = [
        [template(thing, length * scale, turn, side) for turn in TURNS] for length, side in zip(lengths, sides, strict=True)
    ]
    parts = _parts(image, scale, ceil(2 * max(lengths)))
    for number, part in enumerate(parts, start=1):
        cells = _cells(image, part, scale, sorted({*sides}))
        found: dict[float, list[Match]] = {}
        for length, side, bank in zip(lengths, sides, banks, strict=True):
            scores = correlate(cells[side], bank)[0].amax(0)
            size = length * np.divide(thing.size, max(thing.size))
            found[length] = list(_peaks(scores, size, side / scale, part, most))
        yield number / len(parts), found


def _peaks(scores: torch.Tensor, size: NDArray[np.float64], cell: float, part: Box, most: int) -> Iterator[Match]:
    """The highest places of (h, w) correlations that are higher than their neighbours, as boxes of `size`."""
    peaks = (scores == functional.max_pool2d(scores[None], 5, 1, 2)[0]) & (scores > 0)
    rows, columns = torch.nonzero(peaks, as_tuple=True)
    kept = scores[rows, columns].topk(min(most, len(rows)))
    for score, index in zip(kept.values.tolist(), kept.indices.tolist(), strict=True):
        x, y = part.left + (columns[index].item() + 0.5) * cell, part.top + (rows[index].item() + 0.5) * cell
        yield Match(_box(x, y, float(size[0]), float(size[1])), score)


def _parts(image: Image.Image, scale: float, overlap: int) -> list[Box]:
    """Squares that cover the image, at most `PART` pixels a side at `scale`, so that memory depends on no image's shape."""
    side = max(int(PART / scale), 3 * overlap)
    return list(plan_tiles(image.size, side, overlap / side))


def _cells(image: Image.Image, part: Box, scale: float, sides: Sequence[int]) -> dict[int, torch.Tensor]:
    """A part's edges at `scale`, in cells of each of these sides."""
    size = (max(CELL, round(part.size[0] * scale)), max(CELL, round(part.size[1] * scale)))
    edge = (part.left, part.top, part.right, part.bottom)
    pixels = to_pixels(image.resize(size, Image.Resampling.BILINEAR, box=edge, reducing_gap=3))[None]
    return dict(zip(sides, edges_in_cells(pixels, sides), strict=True))


def refine(image: Image.Image, thing: Image.Image, matches: Sequence[Match]) -> list[Match]:
    """The same places compared at twice the resolution, with finer turns and sizes, best first."""
    if not matches:
        return []
    banks = [template(thing, FINE * size, turn) for size in FINE_SIZES for turn in FINE_TURNS]
    side = int(FINE * 1.6 / CELL) * CELL
    first = side // CELL // 2 - REACH
    crops, scales = [], []
    for match in matches:
        crops.append(to_pixels(_around(image, match, side, FINE)))
        scales.append(max(match.box.size) / FINE)
    better = []
    for start in range(0, len(crops), 16):
        cells = edges(np.stack(crops[start : start + 16]))
        for offset, score in enumerate(correlate(cells, banks, REACH)):
            match, scale = matches[start + offset], scales[start + offset]
            bank, row, column = np.unravel_index(int(score.argmax()), tuple(score.shape))
            x, y = _centre(match.box)
            x += ((int(column) + first + 0.5) * CELL - side / 2) * scale
            y += ((int(row) + first + 0.5) * CELL - side / 2) * scale
            size = np.multiply(match.box.size, FINE_SIZES[int(bank) // len(FINE_TURNS)])
            box = _box(x, y, float(size[0]), float(size[1]))
            place = int(row) + first, int(column) + first
            turn = FINE_TURNS[int(bank) % len(FINE_TURNS)]
            better.append(Match(box, float(score.max()), *agree(cells[offset], banks[int(bank)], place), turn))
    return _apart(better)


def verify(image: Image.Image, thing: Image.Image, matches: Sequence[Match]) -> list[Match]:
    """The same matches with what the verifier says of each, best first by that."""
    verifier, pairs = load_verifier(), [lay_over(image, thing, match) for match in matches]
    said = verifier.compare(pairs)
    likely = sorted(range(len(pairs)), key=lambda k: -said[k])[:CLOSELY]
    closely = dict(zip(likely, verifier.compare([pairs[k] for k in likely], len(WAYS)), strict=True))
    judged = [replace(match, alike=closely.get(k, said[k])) for k, match in enumerate(matches)]
    return sorted(judged, key=lambda match: -match.alike)


def lay_over(image: Image.Image, thing: Image.Image, match: Match) -> tuple[Image.Image, Image.Image]:
    """The reference, turned, on the colour of its border, and what is under it in the image: SIDE x SIDE RGB at one scale."""
    longest = SIDE * 2 / 3
    scale = longest / max(thing.size)
    size = max(2, round(thing.width * scale)), max(2, round(thing.height * scale))
    small = thing.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
    pixels = np.asarray(small)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = tuple(int(level) for level in np.median(border, axis=0))
    shown = Image.new("RGB", (SIDE, SIDE), ground)
    shown.paste(small, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    place = _around(image, match, SIDE, longest).convert("RGB")
    return shown.rotate(match.turn, Image.Resampling.BICUBIC, fillcolor=ground), place


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


def _around(image: Image.Image, match: Match, side: int, longest: float) -> Image.Image:
    """The square of `side` pixels about a match in which its longer side takes `longest`."""
    reach = max(match.box.size) * side / longest / 2
    x, y = _centre(match.box)
    return _cut(image, (x - reach, y - reach, x + reach, y + reach), side)


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


def _centre(box: Box) -> tuple[float, float]:
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2


def _box(x: float, y: float, width: float, height: float) -> Box:
    left, top = round(x - width / 2), round(y - height / 2)
    return Box(left, top, max(left + 1, round(x + width / 2)), max(top + 1, round(y + height / 2)))
