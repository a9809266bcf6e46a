"""Abdominal phantoms: synthetic upright films of five classes with known masks, as unevenly many of each as in life.

    python -m finetune.seg_phantom --out DIR [--count 400] [--seed 0]

Knows a cartoon of five gas patterns and what it has drawn. Does not know patients, models or training.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from finetune.seg_pairs import CLASSES

KINDS = ("normal", "constipation", "air-fluid level", "pyloric stenosis", "pneumoperitoneum")
SHARES = (0.5, 0.22, 0.14, 0.08, 0.06)
SIZE = (208, 256)
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


def draw_abdomen(rng: np.random.Generator, kind: str) -> tuple[Image.Image, Image.Image]:
    """A film ("L") that depends on `rng` alone, and its index mask: the pattern of `kind`, by its place in `KINDS`, from 1."""
    width, height = SIZE
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32))
    x = (x - rng.uniform(-0.06, 0.06)) / rng.uniform(0.9, 1.05)
    dome = np.asarray(0.2 + 0.09 * ((np.abs(x) - 0.42) / 0.42) ** 2 + rng.uniform(-0.02, 0.02), np.float32)
    film = 0.62 * _soft((np.abs(x) < 0.86 - 0.12 * np.cos(5 * y)).astype(np.float32), 3)
    film -= 0.36 * _soft(((y < dome) & (np.abs(np.abs(x) - 0.42) < 0.34)).astype(np.float32), 2)
    film += 0.16 * _soft((np.abs(x) < 0.1).astype(np.float32), 2)
    gas, found = _PATTERNS[kind](rng, x, y, dome)
    for _ in range(rng.integers(2, 6)):  # bowel gas that means nothing, away from what does
        spot = _ellipse(x, y, rng.uniform(-0.6, 0.6), rng.uniform(0.45, 0.92), *rng.uniform(0.03, 0.06, 2))
        film -= 0.1 * _soft((spot & ~found).astype(np.float32), 3)
    film += gas
    film = (film - 0.3) * rng.uniform(0.8, 1.25) + 0.35 + rng.normal(0, rng.uniform(0.01, 0.04), film.shape)
    index = np.where(found, np.uint8(KINDS.index(kind) + 1), np.uint8(0))
    return Image.fromarray((film.clip(0, 1) * 255).astype(np.uint8)), Image.fromarray(index)


def _ellipse(x: Floats, y: Floats, across: float, down: float, wide: float, tall: float) -> Bools:
    return np.asarray(((x - across) / wide) ** 2 + ((y - down) / tall) ** 2 < 1)


def _soft(values: Floats, blur: float) -> Floats:
    return np.asarray(ndimage.gaussian_filter(values, blur), np.float32)


def _normal(rng: np.random.Generator, x: Floats, y: Floats, dome: Floats) -> tuple[Floats, Bools]:
    """A small gastric bubble under the left dome, without a level."""
    found = _ellipse(x, y, rng.uniform(0.32, 0.5), rng.uniform(0.34, 0.38), rng.uniform(0.13, 0.2), rng.uniform(0.045, 0.07))
    return -0.24 * _soft(found.astype(np.float32), 1.5), found


def _constipation(rng: np.random.Generator, x: Floats, y: Floats, dome: Floats) -> tuple[Floats, Bools]:
    """Mottled stool in the right, then the left colon."""
    found = np.zeros(x.shape, bool)
    for side in (-1, 1):
        sway = 0.05 * np.sin(y * rng.uniform(12, 20) + rng.uniform(0, 6))
        found |= (np.abs(x - side * 0.58 - sway) < rng.uniform(0.11, 0.16)) & (y > rng.uniform(0.45, 0.52)) & (y < 0.88)
    grain = rng.uniform(-0.26, 0.14, (32, 26)).astype(np.float32)
    mottle = np.asarray(Image.fromarray(grain).resize(SIZE, Image.Resampling.BICUBIC), np.float32)
    return mottle * _soft(found.astype(np.float32), 1), found


def _levels(rng: np.random.Generator, x: Floats, y: Floats, dome: Floats) -> tuple[Floats, Bools]:
    """Three to five loops in steps, each gas above and fluid below one flat line; gas and fluid both belong to it."""
    gas, fluid = np.zeros(x.shape, bool), np.zeros(x.shape, bool)
    for step in range(rng.integers(3, 6)):
        down = 0.46 + 0.1 * step + rng.uniform(-0.01, 0.01)
        loop = _ellipse(x, y, rng.uniform(-0.4, 0.4), down, rng.uniform(0.2, 0.3), rng.uniform(0.04, 0.055))
        gas, fluid = gas | loop & (y < down), (fluid | loop & (y >= down)) & ~(loop & (y < down))
    return np.where(gas, np.float32(-0.3), np.where(fluid, np.float32(0.12), np.float32(0))), gas | fluid


def _stenosis(rng: np.random.Generator, x: Floats, y: Floats, dome: Floats) -> tuple[Floats, Bools]:
    """One large stomach across the middle with a level in it, little gas beyond."""
    down = rng.uniform(0.42, 0.48)
    found = _ellipse(x, y, rng.uniform(0.05, 0.2), down, rng.uniform(0.45, 0.6), rng.uniform(0.12, 0.16))
    level = down + rng.uniform(-0.03, 0.05)
    return np.where(found, np.where(y < level, np.float32(-0.3), np.float32(0.1)), np.float32(0)), found


def _free_air(rng: np.random.Generator, x: Floats, y: Floats, dome: Floats) -> tuple[Floats, Bools]:
    """A crescent of air right under the line of the right dome."""
    thick = rng.uniform(0.045, 0.07) * np.clip(1 - ((x + 0.42) / rng.uniform(0.28, 0.36)) ** 2, 0, 1)
    found = (y > dome + 0.015) & (y < dome + 0.015 + thick)
    return -0.34 * _soft(found.astype(np.float32), 0.7), found


_PATTERNS = {
    "normal": _normal, "constipation": _constipation, "air-fluid level": _levels,
    "pyloric stenosis": _stenosis, "pneumoperitoneum": _free_air,
}  # fmt: skip


def write_phantoms(folder: Path, count: int, seed: int = 0) -> None:
    """`count` pairs of as many patients and their `classes.txt`, as `finetune.seg_pairs` reads them."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, kind in enumerate(rng.choice(KINDS, count, p=SHARES)):
        film, mask = draw_abdomen(rng, str(kind))
        film.save(folder / f"images/person{number}_{seed}.png")
        mask.save(folder / f"masks/person{number}_{seed}.png")
    (folder / CLASSES).write_text("\n".join(KINDS) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_phantoms(args.out, args.count, args.seed)


if __name__ == "__main__":
    main()
