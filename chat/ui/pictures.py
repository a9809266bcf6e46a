"""Pictures: images as the page shows them, small and inside the page itself, so that no copy lies in a cache.

Knows images, maps and data URLs. Does not know studies, models or components.
"""

import base64
import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from uuid import uuid4

import numpy as np
from PIL import Image

from vision.evidence import Heatmap, Mask
from vision.overlay import draw_heatmap, draw_masks, shown_size

PREVIEW_SIDE = 1280
THUMBNAIL_SIDE = 240
LAYER_SIDE = 640

TILE_SIDE = 512
TILE_OVERLAP = 1
TILE_BYTES = 12 << 20
"""How much is kept of what was cut out of one image."""

MOST_GLIMPSES = 12


@dataclass(frozen=True)
class Layers:
    """A saliency map as two transparent PNGs, in data URLs, that a browser lays over the image stretched to its size."""

    heat: str
    contour: str


def layers_of(heatmap: Heatmap, size: tuple[int, int], trusted: bool) -> Layers:
    """The layers of a map of an image of (width, height): what the overlay for the model is painted with, cut loose from it.

    On black, a painted pixel is its colour times how much it covers, which is the map's value.
    """
    black = Image.new("RGB", shown_size(size, LAYER_SIDE))
    covers = np.clip(np.nan_to_num(heatmap.at(black.size)), 0, 1)
    painted = np.asarray(draw_heatmap(black, heatmap, 1, contour=False, trusted=trusted), np.float32)
    colours = np.clip(painted / np.maximum(covers, 1 / 255)[..., None], 0, 255)
    line = np.asarray(draw_heatmap(black, heatmap, 0, contour=True, trusted=trusted))
    return Layers(_png(np.dstack([colours, 255 * covers])), _png(np.dstack([line, 255 * line.any(axis=-1)])))


def outline_of(masks: Sequence[Mask], size: tuple[int, int]) -> str:
    """The masks' outlines on an image of (width, height), as a layer, on a small film finer than it is; "" without masks."""
    if not masks:
        return ""
    scale = LAYER_SIDE / max(size)
    black = Image.new("RGB", (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))

    def fitted(mask: Mask) -> Mask:
        grey = Image.fromarray(mask.values.astype(np.uint8) * 255)
        small = np.asarray(grey.resize(black.size, Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BOX))
        return Mask(mask.label, small > (127 if scale > 1 else 0))

    line = np.asarray(draw_masks(black, [fitted(mask) for mask in masks]))
    return _png(np.dstack([line, 255 * line.any(axis=-1)]))


class Pyramid:
    """An image at every power of two, in tiles that are cut when they are asked for; the last ones are kept, in memory only.

    Its geometry is Deep Zoom's: at level `levels` a pixel is the image's own, one below it is half as fine, at 0 the image is
    one pixel. `key` is known to nobody but who is given it.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.key = uuid4().hex
        self.levels = (max(image.size) - 1).bit_length()
        self._kept: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def _small(self) -> Image.Image:
        """An eighth of the image: what the coarse levels are cut from, so that no tile reads more than 4096 x 4096 pixels."""
        return self.image.reduce(8)

    def tile(self, level: int, column: int, row: int) -> bytes:
        """A JPEG of at most `TILE_SIDE` pixels a side, and what it shares with its neighbours. Raises ValueError for none."""
        place = level, column, row
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        data = _encoded(self._cut(level, column, row), "JPEG", quality=86)
        with self._lock:
            self._kept[place] = data
            while sum(map(len, self._kept.values())) > TILE_BYTES:
                self._kept.popitem(last=False)
        return data

    def _cut(self, level: int, column: int, row: int) -> Image.Image:
        if not 0 <= level <= self.levels:
            raise ValueError(f"There is no level {level}.")
        step = 1 << (self.levels - level)
        edges: list[int] = []
        for at, side in ((column, self.image.width), (row, self.image.height)):
            length = ceil(side / step)
            if not 0 <= at < ceil(length / TILE_SIDE):
                raise ValueError(f"There is no tile {column}, {row} at level {level}.")
            edges += [max(0, at * TILE_SIDE - TILE_OVERLAP), min(length, (at + 1) * TILE_SIDE + TILE_OVERLAP)]
        left, right, top, bottom = edges
        source, every = (self._small, step / 8) if step >= 8 else (self.image, float(step))
        within = left * every, top * every, min(source.width, right * every), min(source.height, bottom * every)
        return source.resize((right - left, bottom - top), Image.Resampling.BOX, box=within).convert("RGB")


@dataclass(frozen=True)
class Glimpse:
    """A picture as the vision tower got it: its exact pixels in a data URL, and their SHA-256, row by row in RGB."""

    url: str
    sha256: str
    side: int


class Eye:
    """How the model sees: its input's side and one patch's, in pixels, and what it makes of a picture; None where that is
    not known. What it has seen last is kept, for a page is drawn more often than a question is asked.
    """

    def __init__(self, side: int = 0, patch: float = 0.0, see: Callable[[Image.Image], Image.Image] | None = None) -> None:
        self.side, self.patch, self.see = side, patch, see
        self._seen: OrderedDict[int, tuple[Image.Image, Glimpse]] = OrderedDict()

    def another(self) -> "Eye":
        """One like this that has seen nothing yet."""
        return Eye(self.side, self.patch, self.see)

    def glimpse(self, image: Image.Image) -> Glimpse | None:
        """None where nobody knows how the model prepares a picture."""
        if self.see is None:
            return None
        kept = self._seen.pop(id(image), None)
        if kept is None or kept[0] is not image:
            pixels = self.see(image)
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            kept = image, Glimpse(_url(pixels, "PNG"), digest, max(pixels.size))
        self._seen[id(image)] = kept
        while len(self._seen) > MOST_GLIMPSES:
            self._seen.popitem(last=False)
        return kept[1]


def data_url(image: Image.Image, side: int) -> str:
    """`image` as a JPEG of at most `side` pixels a side, in a data URL; never enlarged."""
    size = shown_size(image.size, side)
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _url(small, "JPEG", quality=88)


def _png(pixels: np.ndarray) -> str:
    return _url(Image.fromarray(np.rint(pixels).astype(np.uint8), "RGBA"), "PNG")


def _url(image: Image.Image, kind: str, **options: int) -> str:
    return f"data:image/{kind.lower()};base64," + base64.b64encode(_encoded(image, kind, **options)).decode("ascii")


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()
