"""Examples: the pictures of the page's gallery, drawn by our own generators and small enough to commit.

Knows scenes, phantoms and outlines. Does not know the page. Run: `python -m finetune.examples`.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from finetune.easel import COLOURS
from finetune.outlines import SHAPES, TILT, outline
from finetune.phantom import draw_phantom
from finetune.scenes import draw_scene

FOLDER = Path(__file__).parents[1] / "chat" / "ui" / "examples"
CROWD_SIZE = (2400, 1600)
CROWD_CELL = 100
PAPER = (238, 236, 230)
SCENES = {"shapes": 14, "word": 1}
PHANTOMS = {"chest": 6, "chest-clear": 9}


def draw_crowd(rng: np.random.Generator) -> Image.Image:
    """A large sheet of small shapes, one in each cell, and exactly one red heart among them."""
    image = Image.new("RGB", CROWD_SIZE, PAPER)
    pen = ImageDraw.Draw(image)
    columns, rows = CROWD_SIZE[0] // CROWD_CELL, CROWD_SIZE[1] // CROWD_CELL
    odd = (int(rng.integers(columns)), int(rng.integers(rows)))
    colours = [name for name in COLOURS if name not in ("white", "red", "pink")]
    shapes = [name for name in SHAPES if name not in ("heart", "ring")]
    for row in range(rows):
        for column in range(columns):
            kind, colour = ("heart", "red") if (column, row) == odd else (str(rng.choice(shapes)), str(rng.choice(colours)))
            points = outline(kind, float(rng.uniform(-1, 1)) * TILT[kind]) * rng.uniform(44, 60)
            corner = np.array([column, row]) * CROWD_CELL + rng.uniform(8, CROWD_CELL - 8 - points.max(0))
            pen.polygon([tuple(p) for p in (points + corner).tolist()], fill=COLOURS[colour])
    return image


def main() -> None:
    """Draw every example anew; the same pictures each time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, seed in SCENES.items():
        draw_scene(np.random.default_rng(seed)).image.save(FOLDER / f"{name}.webp", quality=86, method=6)
    for name, seed in PHANTOMS.items():
        phantom = draw_phantom(np.random.default_rng(seed), opacity=name == "chest")
        phantom.image.convert("L").save(FOLDER / f"{name}.webp", quality=84, method=6)
    draw_crowd(np.random.default_rng(1)).quantize(32).save(FOLDER / "crowd.png", optimize=True)


if __name__ == "__main__":
    main()
