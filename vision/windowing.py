"""Windowing: grey values of any width as an 8-bit picture, by the rules of DICOM PS3.3 C.11.

Knows arrays. Does not know files, colours or language; the names of presets are keys that the page words.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.integer | np.floating]  # (height, width)
Window = tuple[float, float]  # center, width
Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

_HOUNSFIELD: dict[str, Window] = {"lung": (-600, 1500), "soft": (40, 400), "bone": (400, 1800), "brain": (40, 80)}
_SHARES: dict[str, Window] = {"lung": (0.3, 0.6), "bone": (0.7, 0.6)}
"""Where to look on a projection, as shares of its range from black to white: air is dark on a film, bone is bright."""


@dataclass(frozen=True, eq=False)
class Lut:
    """A lookup table: entry i stands for the value `first + i`; what lies outside takes the nearer end. `top` is full scale."""

    first: int
    entries: NDArray[np.uint16]
    top: int

    def apply(self, values: Pixels) -> NDArray[np.uint16]:
        """The entry of each value."""
        places = np.clip(np.rint(np.nan_to_num(values)) - self.first, 0, len(self.entries) - 1)
        taken: NDArray[np.uint16] = self.entries[places.astype(np.intp)]
        return taken

    def signed(self) -> "Lut":
        """The same, where `first` was written as two's complement of 16 bits."""
        return replace(self, first=self.first - 65_536) if self.first > 32_767 else self


@dataclass(frozen=True, eq=False)
class Raw:
    """The values of a grey image before windowing, after rescale, in the frame of the study's image.

    `is_negative`: the lowest value is white (MONOCHROME1). `windows` and `lut` are the header's: the table is the first
    look where there is one, else the first window. `is_hounsfield`: CT numbers. `bits`: how many were stored.
    """

    values: Pixels
    bits: int = 8
    is_negative: bool = False
    is_hounsfield: bool = False
    function: Function = "LINEAR"
    windows: tuple[Window, ...] = ()
    lut: Lut | None = None


def render(raw: Raw, center: float, width: float, inverted: bool = False) -> Image.Image:
    """The values as 8-bit grey through a window, by the function that the header names (PS3.3 C.11.2.1.2 and .3).

    NaN and infinities become black. Raises ValueError for a width of less than 1 (LINEAR), or of none.
    """
    if not (np.isfinite(center) and np.isfinite(width)) or (width < 1 if raw.function == "LINEAR" else width <= 0):
        raise ValueError(f"A {raw.function} window of center {center} and width {width} shows nothing.")
    return _drawn(raw, inverted, lambda values: _shares(values, center, width, raw.function))


def first_look(raw: Raw) -> tuple[Image.Image, Window | None]:
    """The picture as the header means it, and its window; None where a lookup table took its place or all is one grey."""
    lut = raw.lut
    if lut is not None:
        return _drawn(raw, False, lambda values: lut.apply(values) / lut.top), None
    window = next(iter(raw.windows), None) or auto_window(raw)
    if window is None:
        return Image.fromarray(np.full(raw.values.shape, 128, np.uint8)), None
    return render(raw, *window), window


def auto_window(raw: Raw) -> Window | None:
    """From the lowest value as black to the highest as white; None when there is only one.

    The outermost thousandths (a hot pixel, a burned-in mark) are left out when they hold more than half of the range.
    """
    ends = _robust(raw.values)
    return None if ends is None else _spanning(raw, *ends)


def presets(raw: Raw, modality: str | None) -> dict[str, Window]:
    """Named windows: "auto", "wide" (every value), the header's as "header", "header_2" and so on, and by modality:
    Hounsfield units for CT, parts of the range for a projection ("lung", "bone"). Empty when there is one value only.
    """
    whole, ends = extent(raw.values), _robust(raw.values)
    if whole is None or ends is None:
        return {}
    named = {"auto": _spanning(raw, *ends), "wide": _spanning(raw, *whole)}
    named |= {f"header_{i}" if i > 1 else "header": window for i, window in enumerate(raw.windows, 1)}
    if raw.is_hounsfield:
        return named | _HOUNSFIELD
    if modality in (None, "CR", "DX", "RG", "PX", "IO", "XA", "RF"):
        (low, high), span = ends, ends[1] - ends[0]
        for name, (center, width) in _SHARES.items():
            middle = high - center * span if raw.is_negative else low + center * span
            named[name] = _spanning(raw, middle - width * span / 2, middle + width * span / 2)
    return named


def _spanning(raw: Raw, low: float, high: float) -> Window:
    """The window of which `low` is just black and `high` just white; LINEAR counts both ends as whole values."""
    grain = 1 if raw.function == "LINEAR" else 0
    return (low + high + grain) / 2, high - low + grain


def _shares(values: Pixels, center: float, width: float, function: Function) -> NDArray[np.float64]:
    """Brightness from 0 to 1 of values, before any inversion."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - (center - width / 2)) / width, 0, 1)


def _drawn(raw: Raw, inverted: bool, brightness: Callable[[Pixels], Pixels]) -> Image.Image:
    grey = np.empty(raw.values.shape, np.uint8)
    for rows in _row_blocks(raw.values.shape):
        values = raw.values[rows].astype(np.float64)
        finite = np.isfinite(values)
        share = brightness(np.where(finite, values, 0))
        share = 1 - share if raw.is_negative != inverted else share
        grey[rows] = np.where(finite, np.rint(255 * share), 0).astype(np.uint8)
    return Image.fromarray(grey)


def extent(pixels: Pixels) -> tuple[float, float] | None:
    """The lowest and the highest finite value; None when there are no two."""
    blocks = (pixels[rows][np.isfinite(pixels[rows])] for rows in _row_blocks(pixels.shape))
    ends = [(float(block.min()), float(block.max())) for block in blocks if block.size]
    low, high = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else (0.0, 0.0)
    return None if low == high else (low, high)


def _robust(pixels: Pixels) -> tuple[float, float] | None:
    whole = extent(pixels)
    if whole is None:
        return None
    sample = pixels.ravel()[:: max(1, pixels.size // 1_000_000)].astype(np.float64)
    inner = np.percentile(sample[np.isfinite(sample)], (0.1, 99.9)) if np.isfinite(sample).any() else whole
    low, high = (float(end) for end in inner)
    return (low, high) if 0 < high - low < (whole[1] - whole[0]) / 2 else whole


def _row_blocks(shape: tuple[int, ...]) -> list[slice]:
    """Slices of rows that hold about a million pixels each, so that a wide copy of an image never stands whole."""
    height, width = shape
    rows = max(1, 1_000_000 // width)
    return [slice(top, top + rows) for top in range(0, height, rows)]
