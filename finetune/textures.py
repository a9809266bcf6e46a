"""Textures: noise, gradients and patterns that show no thing at all.

Knows colours and fields. Does not know things, questions or files.
"""

import numpy as np
from PIL import Image, ImageDraw

Random = np.random.Generator
Size = tuple[int, int]
Colour = tuple[int, int, int]
SMALL = 160  # the side at which soft textures are computed before they are enlarged


def colour(rng: Random, low: int = 0, high: int = 256) -> Colour:
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


def noise(rng: Random, octaves: int, first: int = 2, fade: float = 0.55) -> np.ndarray:
    """Value noise of 0..1 on a square of `SMALL` pixels; the more octaves, the finer."""
    field = np.zeros((SMALL, SMALL), np.float32)
    for octave in range(octaves):
        grid = Image.fromarray(rng.random((first * 2**octave + 1,) * 2, dtype=np.float32))
        field += fade**octave * np.asarray(grid.resize((SMALL, SMALL), Image.Resampling.BICUBIC))
    field -= field.min()
    field /= field.max()
    return field


def painted(field: np.ndarray, colours: list[Colour], size: Size) -> Image.Image:
    """A field of 0..1 in a run of colours, enlarged to (width, height)."""
    stops = np.linspace(0, 1, len(colours))
    bands = [np.interp(field, stops, [colour[i] for colour in colours]) for i in range(3)]
    small = Image.fromarray(np.stack(bands, -1).clip(0, 255).astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def plasma(rng: Random, size: Size) -> Image.Image:
    field = noise(rng, int(rng.integers(2, 7)), int(rng.integers(2, 5)), float(rng.uniform(0.4, 0.75)))
    if rng.random() < 0.4:
        field = 0.5 + 0.5 * np.sin(field * rng.uniform(8, 40))
    return painted(field, [colour(rng) for _ in range(int(rng.integers(2, 6)))], size)


def static(rng: Random, size: Size) -> Image.Image:
    """Grey or coloured noise of some grain."""
    grain, bands = int(rng.integers(1, 6)), 1 if rng.random() < 0.6 else 3
    shape = (size[1] // grain, size[0] // grain, bands)
    spots = rng.integers(0, 256, shape, dtype=np.uint8)
    picture = Image.fromarray(spots[..., 0] if bands == 1 else spots).convert("RGB")
    return picture.resize(size, Image.Resampling.NEAREST if rng.random() < 0.5 else Image.Resampling.BILINEAR)


def gradient(rng: Random, size: Size) -> Image.Image:
    rows, columns = np.mgrid[-1 : 1 : SMALL * 1j, -1 : 1 : SMALL * 1j]
    x, y = rng.uniform(-1, 1, 2)
    field = x * columns + y * rows if rng.random() < 0.6 else np.hypot(rows - x, columns - y)
    field = (field - field.min()) / np.ptp(field)
    return painted(field, [colour(rng) for _ in range(int(rng.integers(2, 4)))], size)


def blank(rng: Random, size: Size) -> Image.Image:
    """One colour; often nearly black, grey or white."""
    level = int(rng.choice([0, 0, 255, 255, int(rng.integers(256))]))
    return Image.new("RGB", size, colour(rng) if rng.random() < 0.4 else (level, level, level))


def pattern(rng: Random, size: Size) -> Image.Image:
    """Stripes, a grid, a chessboard or bricks."""
    step, kind = int(rng.integers(12, 60)), int(rng.integers(4))
    rows, columns = np.ogrid[: size[1], : size[0]]
    slope = rng.uniform(-0.6, 0.6)
    row, column = rows // step, columns // step
    if kind == 0:
        field = np.asarray(((rows + slope * columns) // step) % 2)
    elif kind == 1:
        field = np.asarray((rows % step < 4) | (columns % step < 4))
    elif kind == 2:
        field = np.asarray((row + column) % 2)
    else:
        field = np.asarray((rows % step < 4) | ((columns + (row % 2) * step) % (2 * step) < 4))
    inks = np.array([colour(rng), colour(rng)], np.int16)[field.astype(np.intp)]
    grain = rng.integers(-15, 16, (size[1], size[0], 1), dtype=np.int16)
    return Image.fromarray((inks + grain).clip(0, 255).astype(np.uint8))


def wood(rng: Random, size: Size) -> Image.Image:
    """Wavy rings about a point that may lie outside."""
    rows, columns = np.mgrid[0 : 1 : SMALL * 1j, 0 : 1 : SMALL * 1j]
    x, y = rng.uniform(-0.5, 1.5, 2)
    far = np.hypot(rows - y, (columns - x) * rng.uniform(0.1, 1)) + rng.uniform(0.02, 0.15) * noise(rng, 4)
    field = 0.5 + 0.5 * np.sin(far * rng.uniform(25, 90))
    brown = (int(rng.integers(90, 190)), int(rng.integers(55, 120)), int(rng.integers(20, 70)))
    return painted(field, [brown, (min(255, brown[0] + 50), brown[1] + 40, brown[2] + 30)], size)


def stars(rng: Random, size: Size) -> Image.Image:
    """A night sky."""
    picture = painted(noise(rng, 4) ** 2, [(2, 2, 10), colour(rng, 10, 90)], size)
    pen = ImageDraw.Draw(picture)
    for x, y, r in zip(rng.uniform(0, size[0], 220), rng.uniform(0, size[1], 220), rng.exponential(0.8, 220), strict=True):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour(rng, 190, 256))
    return picture
