"""Pasted: opacities, markers, tubes, leads and borders put on real films, with their truth, for benchmarks/saliency.py.

Knows grey pixels and random numbers. Does not know models or maps.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

from vision.tiling import Box

Grey = NDArray[np.float32]
Where = NDArray[np.bool_]


def blend_opacity(rng: np.random.Generator, film: Grey, lungs: Where) -> tuple[Grey, Box]:
    """`film`, (h, w) in [0, 1], with one hazy patch inside `lungs`; the box holds the pixels where it is over 0.3 of its peak.

    Three to six soft ellipses run together, 0.15 to 0.45 of the film wide, lift the lung by 0.6 to 1 of the way to the
    brightness of its soft tissue, with a texture of their own, and end at the lung's edge.
    """
    height, width = film.shape
    reach = rng.uniform(0.08, 0.2) * min(film.shape)
    deep = ndimage.distance_transform_edt(lungs)
    ys, xs = np.nonzero(deep >= min(0.4 * reach, 0.9 * float(deep.max())))
    pick = int(rng.integers(len(ys)))
    rows, columns = np.ogrid[:height, :width]
    field = np.zeros(film.shape, np.float32)
    for _ in range(int(rng.integers(3, 7))):
        away, part = rng.uniform(-0.6, 0.6, 2) * reach, rng.uniform(0.6, 1.0, 2) * reach
        distance = ((rows - ys[pick] - away[0]) / part[0]) ** 2 + ((columns - xs[pick] - away[1]) / part[1]) ** 2
        field += np.exp(-distance).astype(np.float32)
    field = np.minimum(1, field / (0.7 * field.max())) * ndimage.gaussian_filter(lungs.astype(np.float32), 0.012 * width)
    coarse = Image.fromarray(rng.uniform(0.7, 1.15, (40, 40)).astype(np.float32))
    texture = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    tissue = float(np.percentile(film, 85))
    lifted = film + rng.uniform(0.6, 1.0) * field * texture * np.maximum(0, tissue - film)
    rows_in, columns_in = np.nonzero(field > 0.3 * field.max())
    box = Box(int(columns_in.min()), int(rows_in.min()), int(columns_in.max()) + 1, int(rows_in.max()) + 1)
    return np.clip(lifted, 0, 1).astype(np.float32), box


def _paint(film: Grey, cover: Image.Image, shade: float) -> tuple[Grey, Where]:
    painted = np.asarray(cover.filter(ImageFilter.GaussianBlur(0.5)), np.float32) / 255
    return (film * (1 - painted) + shade * painted).astype(np.float32), painted > 0.3


def paste_letter(rng: np.random.Generator, film: Grey) -> tuple[Grey, Where]:
    """A lead marker anywhere: R, L or a word, 0.07 to 0.16 of the film tall, sometimes in a bright frame."""
    height, width = film.shape
    cover = Image.new("L", (width, height))
    text = str(rng.choice(["R", "L", "R", "L", "AP", "PORT", "SUP"]))
    font = ImageFont.load_default(round(rng.uniform(0.07, 0.16) * height))
    pen = ImageDraw.Draw(cover)
    left, top, right, bottom = pen.textbbox((0, 0), text, font)
    x, y = rng.uniform(0.02, 0.98, 2) * (max(1, width - right), max(1, height - bottom))
    pen.text((x, y), text, 255, font)
    if rng.random() < 0.3:
        pen.rectangle((x + left - 4, y + top - 4, x + right + 4, y + bottom + 4), outline=255, width=2)
    return _paint(film, cover, rng.uniform(0.88, 1.0))


def paste_tube(rng: np.random.Generator, film: Grey) -> tuple[Grey, Where]:
    """A radio-opaque tube or catheter, 0.015 to 0.03 of the film thick, curving down from the upper edge."""
    height, width = film.shape
    t = np.linspace(0, 1, 40)
    start, sway, end = rng.uniform(0.25, 0.75), rng.uniform(-0.3, 0.3), rng.uniform(0.4, 1.0)
    x = (start + sway * t**2 + 0.05 * np.sin(rng.uniform(2, 6) * t)) * width
    cover = Image.new("L", (width, height))
    line = list(zip(x.tolist(), (t * end * height).tolist(), strict=True))
    ImageDraw.Draw(cover).line(line, 255, max(2, round(rng.uniform(0.015, 0.03) * width)), joint="curve")
    return _paint(film, cover, rng.uniform(0.85, 1.0))


def paste_leads(rng: np.random.Generator, film: Grey) -> tuple[Grey, Where]:
    """Two to four ECG electrodes, discs with a dark button, on thin wires that leave over an edge."""
    height, width = film.shape
    cover = Image.new("L", (width, height))
    pen = ImageDraw.Draw(cover)
    for _ in range(int(rng.integers(2, 5))):
        x, y = rng.uniform(0.1, 0.9, 2) * (width, height)
        radius = rng.uniform(0.02, 0.045) * width
        end = (float(rng.choice([0.0, width])), y + rng.uniform(-0.3, 0.3) * height)
        pen.line([(x, y), ((x + end[0]) / 2, y + 0.1 * height), end], 255, 2, joint="curve")
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
        pen.ellipse((x - radius / 3, y - radius / 3, x + radius / 3, y + radius / 3), 120)
    return _paint(film, cover, rng.uniform(0.85, 1.0))


def paste_border(rng: np.random.Generator, film: Grey) -> tuple[Grey, Where]:
    """A collimator's edge: one to four sides covered by 0.04 to 0.12 of the film, black, grey or white."""
    height, width = film.shape
    covered = np.zeros(film.shape, bool)
    sides = rng.choice(4, int(rng.integers(1, 5)), replace=False)
    for side in sides:
        depth = rng.uniform(0.04, 0.12)
        rows, columns = round(depth * height), round(depth * width)
        slices = (np.s_[:rows], np.s_[-rows:], np.s_[:, :columns], np.s_[:, -columns:])
        covered[slices[int(side)]] = True
    return np.where(covered, np.float32(rng.choice([0.0, 0.0, 0.5, 0.9, 1.0])), film).astype(np.float32), covered


PASTES: dict[str, Callable[[np.random.Generator, Grey], tuple[Grey, Where]]] = {
    "letter": paste_letter, "tube": paste_tube, "leads": paste_leads, "border": paste_border,
}  # fmt: skip
