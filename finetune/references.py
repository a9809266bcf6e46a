"""References: a thing cut from a scene, and a crop in which it may or may not stand.

Knows scenes and crops. Does not know questions or models.
"""

from dataclasses import dataclass, replace

from PIL import Image, ImageEnhance

from finetune.exchange import Random
from finetune.figures import draw_hunt
from finetune.scenes import Scene, draw_crowd, draw_scene
from vision.tiling import Box, cut

FIGURES = 0.4
"""The share of searches for figures in other colours; the others are for the very shapes of a scene."""


@dataclass(frozen=True)
class Search:
    """A reference and a crop, both RGB; `found` are the numbers of the items in it that are the same thing, `index` is the
    crop's own as in `Scene`.
    """

    shown: Image.Image
    crop: Image.Image
    found: tuple[int, ...]
    index: Image.Image


def around(scene: Scene, box: Box, rng: Random, reach: float) -> Box:
    """`box` grown on each side by up to `reach` of its longer side, clipped to the scene."""
    left, top, right, bottom = (int(rng.uniform(0.2, 1) * reach * max(box.size)) for _ in range(4))
    return Box(box.left - left, box.top - top, box.right + right, box.bottom + bottom).clipped(scene.image.size)


def share_inside(inner: Box, outer: Box) -> float:
    width = min(inner.right, outer.right) - max(inner.left, outer.left)
    height = min(inner.bottom, outer.bottom) - max(inner.top, outer.top)
    return max(0, width) * max(0, height) / (inner.size[0] * inner.size[1])


def draw_part(rng: Random) -> Scene:
    """A third to two thirds of a crowd's width and height, with the items of which most is in it."""
    whole = draw_crowd(rng, apart=0.0, lettered=0.0)
    side = int(rng.uniform(0.35, 0.7) * whole.image.width)
    left, top = (int(rng.integers(whole.image.width - side)) for _ in range(2))
    frame = Box(left, top, left + side, top + side)
    kept = [number for number, item in enumerate(whole.items) if share_inside(item.box, frame) > 0.5]
    items = [whole.items[number] for number in kept]
    renamed = [0] * 256
    for new, number in enumerate(kept, 1):
        renamed[number + 1] = new
    moved = [Box(box.left - left, box.top - top, box.right - left, box.bottom - top) for box in (item.box for item in items)]
    boxed = tuple(replace(item, box=box.clipped((side, side))) for item, box in zip(items, moved, strict=True))
    index = cut(whole.index, frame).image.point(renamed)
    return Scene(cut(whole.image, frame).image, boxed, None, whole.background, index)


def draw_search(rng: Random, figures: float = FIGURES) -> Search | None:
    """A reference, turned, rescaled, shaded and partly covered, and a crop; with the odds `figures` of a figure in other
    colours (`finetune.figures`), else cut from a scene. None where it is not sure whether the same thing stands in the crop.
    """
    if rng.random() < figures:
        shown, crop, index, is_there = draw_hunt(rng)
        return Search(_spoilt(shown, rng), crop, (0,) if is_there else (), index)
    here = draw_scene(rng)
    there = here if rng.random() < 0.6 else draw_scene(rng)
    if not here.items or not there.items:
        return None
    item = here.items[int(rng.integers(len(here.items)))]
    target = item if there is here and rng.random() < 0.75 else there.items[int(rng.integers(len(there.items)))]
    crop_box = around(there, target.box, rng, 2.5)
    alike = [number for number, one in enumerate(there.items) if (one.kind, one.colour) == (item.kind, item.colour)]
    shares = {number: share_inside(there.items[number].box, crop_box) for number in alike}
    if 0 < max(shares.values(), default=0.0) < 0.6:
        return None
    shown = cut(here.image, around(here, item.box, rng, 0.3)).image
    scale = float(rng.uniform(0.5, 2))
    shown = shown.resize((max(16, int(shown.width * scale)), max(16, int(shown.height * scale))), Image.Resampling.BICUBIC)
    found = tuple(number for number, share in shares.items() if share > 0)
    return Search(_spoilt(shown, rng), cut(there.image, crop_box).image, found, cut(there.index, crop_box).image)


def _spoilt(shown: Image.Image, rng: Random) -> Image.Image:
    """Shaded, perhaps partly covered, and turned a little."""
    shown = ImageEnhance.Brightness(shown).enhance(float(rng.uniform(0.8, 1.15)))
    if rng.random() < 0.4:
        grey, part = int(rng.integers(256)), float(rng.uniform(0.05, 0.25))
        width, height = (
            (shown.width, int(part * shown.height)) if rng.random() < 0.5 else (int(part * shown.width), shown.height)
        )
        shown.paste((grey, grey, grey), (0, 0, width, height))
    return shown.rotate(float(rng.uniform(-20, 20)), fillcolor=shown.getpixel((shown.width - 1, shown.height - 1)))
