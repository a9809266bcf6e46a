"""Pictures: images as the page shows them, small and inside the page itself, so that no copy lies in a cache.

Knows images, maps and data URLs. Does not know studies, models or components.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vision.evidence import Heatmap, Mask
from vision.overlay import draw_heatmap, draw_masks, shown_size

PREVIEW_SIDE = 1280
THUMBNAIL_SIDE = 240
LAYER_SIDE = 640


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


def data_url(image: Image.Image, side: int) -> str:
    """`image` as a JPEG of at most `side` pixels a side, in a data URL; never enlarged."""
    size = shown_size(image.size, side)
    small = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _url(small, "JPEG", quality=88)


def _png(pixels: np.ndarray) -> str:
    return _url(Image.fromarray(np.rint(pixels).astype(np.uint8), "RGBA"), "PNG")


def _url(image: Image.Image, kind: str, **options: int) -> str:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(data.getvalue()).decode("ascii")
