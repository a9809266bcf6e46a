"""Decoding: untrusted files become studies in guarded children, and come back as plain values and pixels.

Knows the parts of a Study. Does not know file formats, processes or limits.
"""

import os
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from vision.guard import Admit, Pool, Reply, Streamed
from vision.header import TERMS
from vision.study import Study, StudyError, read_trusted
from vision.windowing import Lut, Raw

_PIXELS = {"image", "raw", "values", "lut", "entries"}
_TERMS = {"PixelSpacing", "ImagerPixelSpacing", *" ".join(TERMS.values()).split()}
"""The only texts that a study may hold, also when a child was taken over by its file."""


@cache
def pool() -> Pool:
    """The children of this process; `pool().warm()` starts one before it is needed."""
    return Pool("vision.decode:answer")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)  # a fork would talk into its parent's pipes


def decode(data: bytes, max_pixels: int) -> Study:
    """`read_trusted(data, max_pixels)` in a child. Raises StudyError, and whatever `Pool.run` does."""
    seconds = 60 + max_pixels / 500_000  # for a child that no longer minds its own limits
    told, arrays = pool().run(data, max_pixels, 12 * max_pixels + (1 << 20), seconds)
    if "refused" in told:
        raise StudyError.again(**told["refused"])
    if not {value for value in told["study"].values() if isinstance(value, str)} <= _TERMS:
        raise ValueError("The child speaks.")
    lut = Lut(entries=arrays[2], **told["lut"]) if told["lut"] else None
    raw = Raw(arrays[1], lut=lut, **_restored(told["raw"])) if told["raw"] else None
    return Study(_image(arrays[0]), raw=raw, **_restored(told["study"]))


def answer(data: bytes, max_pixels: int, admit: Admit) -> Reply:
    """What a child does: the parts of a study, or the error that says why there is none."""
    from vision import dicom as dicom  # here, for a parent needs neither
    from vision import raster as raster

    try:
        study = read_trusted(data, max_pixels, admit)
    except StudyError as error:
        return {"refused": {"reason": error.reason, "message": str(error), "fields": error.fields}}, []
    raw, lut = study.raw, study.raw.lut if study.raw else None
    shown = _pixels(study.image.getchannel(0) if raw else study.image)  # with values it is grey
    told = {"study": _plain(study), "raw": _plain(raw), "lut": _plain(lut)}
    return told, [shown, *([raw.values] if raw else ()), *([lut.entries] if lut else ())]


def _pixels(image: Image.Image) -> Streamed:
    """The pixels as Pillow holds them, colours in four bytes each: nobody has to pack or to unpack them."""
    depth, layout = ((), "L") if image.mode == "L" else ((4,), "RGBX")
    tile = ImageFile._Tile("raw", (0, 0, *image.size), 0, (layout, 0, 1))
    return Streamed(np.dtype("u1"), (image.height, image.width, *depth), partial(ImageFile._save, image, tile=[tile]))


def _image(pixels: NDArray[Any]) -> Image.Image:
    """What `_pixels` gave."""
    if pixels.ndim != 3:
        return Image.fromarray(pixels).convert("RGB")
    height, width, _ = pixels.shape
    return Image.frombytes("RGB", (width, height), pixels, "raw", "RGBX", 0, 1)


def _plain(part: Study | Raw | Lut | None) -> dict[str, Any] | None:
    return {name: value for name, value in vars(part).items() if name not in _PIXELS} if part else None


def _restored(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone, where the parts of a study hold tuples."""
    return {name: _tuples(value) for name, value in values.items()}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
