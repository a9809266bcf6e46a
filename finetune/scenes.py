"""Scenes: pictures of plain shapes and lettering whose every content is known.

Knows how to draw and what it has drawn. Does not know questions, answers, models or files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from finetune.easel import COLOURS, SIZES, Easel, Item, Kind, Lettering, Rgb, paint_paper
from finetune.outlines import SHAPES

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
APART = 0.75
"""The share of crowds that are taken apart."""
CROWDED = ((0.66, 0.3, 0.04), (0.3, 0.4, 0.3))
"""The share of each of SIZES in most crowds, and in the others."""
CONTRAST = 150  # the least RGB distance of a colour drawn from its background


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


def draw_scene(rng: np.random.Generator, held_out: bool = False, apart: float = 0.0) -> Scene:
    """A scene that depends on nothing but `rng`: up to 7 items that lie whole and apart, or lettering, or both.

    No pair of HELD_OUT is drawn unless `held_out`; then at least one is. A scene that is taken apart, which it is with the
    odds `apart`, holds shapes in shades without a name and named colours on blots: neither is learnt by the other's company.
    """
    size = _image_size(rng)
    background, paper = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    colours = [name for name, rgb in COLOURS.items() if _distance(rgb, paper) >= CONTRAST]
    lettered = rng.random() < 0.25
    alone = lettered and not held_out and rng.random() < 0.3
    canvas = Easel(rng, paint_paper(rng, size, paper))
    inks = [COLOURS[name] for name in colours]
    lettering = canvas.draw_lettering(inks) if alone else None
    if lettering is None:  # a long word may find no room on a narrow paper
        whole = _choose_kinds(rng, colours, held_out)
        extents = _choose_sizes(rng, len(whole))
        kinds, shades = _take_apart(rng, paper, whole, apart)
        canvas.draw_items(kinds[:1], shades[:1], extents[:1])
        lettering = canvas.draw_lettering(inks) if lettered else None
        canvas.draw_items(kinds[1:], shades[1:], extents[1:])
    return Scene(canvas.image, tuple(canvas.items), lettering, background, canvas.index)


def draw_crowd(rng: np.random.Generator, apart: float = APART, lettered: float = 0.25) -> Scene:
    """A square scene packed with items, or with single letters and digits: much to see per pixel.

    A tower learns a shape from the number of shapes it has seen, not from the number of images. Some are taken apart as in
    `draw_scene`.
    """
    background, paper = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    colours = [name for name, rgb in COLOURS.items() if _distance(rgb, paper) >= CONTRAST]
    canvas = Easel(rng, paint_paper(rng, (336, 336), paper))
    if rng.random() < lettered:
        lettering = canvas.draw_letters([COLOURS[name] for name in colours], 24)
        return Scene(canvas.image, (), lettering, background, canvas.index)
    pairs = [(c, s) for c in colours for s in SHAPES if (c, s) not in HELD_OUT]
    count = int(rng.integers(12, 36))
    kinds = [pairs[i] for i in rng.integers(len(pairs), size=count)]
    sizes = [SIZES[i] for i in rng.choice(3, size=count, p=CROWDED[int(rng.random() < 0.3)])]
    canvas.draw_items(*_take_apart(rng, paper, kinds, apart), sizes)
    return Scene(canvas.image, tuple(canvas.items), None, background, canvas.index)


def _image_size(rng: np.random.Generator) -> tuple[int, int]:
    longer, aspect = int(rng.integers(336, 561)), float(np.exp(rng.uniform(np.log(0.6), np.log(1.7))))
    return (longer, round(longer / aspect)) if aspect >= 1 else (round(longer * aspect), longer)


def _distance(one: Sequence[int], other: Sequence[int]) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def _take_apart(
    rng: np.random.Generator, paper: Rgb, kinds: Sequence[Kind], odds: float
) -> tuple[Sequence[Kind], Sequence[Rgb]]:
    """The (colour, shape) and the paint of each item; each loses its colour or its shape together, or none does."""
    if not odds or rng.random() >= odds:
        return kinds, [COLOURS[colour] for colour, _ in kinds]
    named = [(colour, "") if rng.random() < 0.4 else ("", shape) for colour, shape in kinds]
    return named, [COLOURS[colour] if colour else _shade(rng, paper, shape) for colour, shape in named]


def _shade(rng: np.random.Generator, paper: Rgb, kind: str) -> Rgb:
    """Any colour that stands out from the paper and is clearly nearer to another than to one held out for this shape."""
    held_out = [COLOURS[colour] for colour, shape in HELD_OUT if shape == kind]
    while True:
        rgb = tuple(rng.integers(256, size=3).tolist())
        nearest = min(_distance(rgb, named) for named in COLOURS.values())
        if _distance(rgb, paper) >= CONTRAST and all(_distance(rgb, named) > nearest + 32 for named in held_out):
            return rgb


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
