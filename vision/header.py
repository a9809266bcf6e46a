"""Headers: what a DICOM header says about its pixels, as plain values without identity, and what these make of the pixels.

Knows PS3.3's terms and arithmetic. Does not know pydicom, compression or files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vision.windowing import Function, Lut, Pixels, Raw, Window, extent

COLOURS = ("Red", "Green", "Blue")
TERMS = {
    "Modality": "CR CT DX ES GM IO IVUS MG MR NM OCT OP OT PT PX RF RG RTDOSE RTIMAGE SC SEG SM US XA XC",
    "ViewPosition": "AP PA LL RL RLD LLD RLO LLO LATERAL CC MLO ML LM LMO XCC SIO FB",
    "ImageLaterality": "R L B",
    "Laterality": "R L B",
    "VOILUTFunction": "LINEAR LINEAR_EXACT SIGMOID",
    "PhotometricInterpretation": "MONOCHROME1 MONOCHROME2 PALETTE_COLOR RGB YBR_FULL YBR_FULL_422 YBR_ICT YBR_RCT",
}
"""The texts that may leave a header, by tag: in any other a name could stand."""


@dataclass(frozen=True)
class Header:
    """The values of each tag as texts, by keyword; lookup tables by the tag or colour that they belong to."""

    texts: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, Lut]

    def term(self, keyword: str) -> str | None:
        """A text, if it is one of those that this tag may hold; a space counts as an underscore."""
        text = next(iter(self.texts.get(keyword, ())), "").strip().upper().replace(" ", "_")
        return text if text in TERMS[keyword].split() else None

    def numbers(self, keyword: str) -> list[float]:
        """The numbers of a tag; NaN in the place of what is none."""
        return [_number(text) for text in self.texts.get(keyword, ())]

    def number(self, keyword: str, default: float) -> float:
        """The first number of a tag; the default when it holds none."""
        number = next(iter(self.numbers(keyword)), nan)
        return number if isfinite(number) else default

    def spacing(self, keyword: str) -> tuple[float, float] | None:
        """Millimetres from row to row and from column to column; some files hold zeros."""
        numbers = self.numbers(keyword)
        return (numbers[0], numbers[1]) if len(numbers) == 2 and all(0 < number < 1000 for number in numbers) else None


def grey_values(header: Header, stored: NDArray[Any], bits: int) -> Raw:
    """Stored values after the modality's lookup table, or rescale slope and intercept, with the header's windows."""
    values: Pixels = stored
    is_signed, is_float = stored.dtype.kind == "i", stored.dtype.kind == "f"
    table = header.tables.get("ModalityLUTSequence")
    slope, intercept = header.number("RescaleSlope", 1) or 1, header.number("RescaleIntercept", 0)
    if table is not None:
        values = (table.signed() if is_signed else table).apply(stored)
    elif (slope, intercept) != (1, 0):
        values = stored.astype(np.result_type(stored.dtype, np.float32)) * slope + intercept
    ends = extent(values)
    function: Any = header.term("VOILUTFunction") or ("LINEAR_EXACT" if is_float else "LINEAR")
    pairs = dict.fromkeys(zip(header.numbers("WindowCenter"), header.numbers("WindowWidth"), strict=False))
    lut = header.tables.get("VOILUTSequence")
    return Raw(
        values,
        bits=bits,
        is_negative=header.term("PhotometricInterpretation") == "MONOCHROME1",
        is_hounsfield=table is None and "RescaleIntercept" in header.texts and header.term("Modality") == "CT",
        function=function,
        windows=tuple(window for window in pairs if ends and _shows(window, ends, function)),
        lut=lut.signed() if lut and ends and ends[0] < 0 else lut,
    )


def painted(header: Header, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """A palette's colours, (rows, columns, 3). Raises ValueError without a whole palette."""
    tables = [header.tables[colour] for colour in COLOURS if colour in header.tables]
    if len(tables) != 3:
        raise ValueError("The palette is missing, or segmented.")
    highest = max(int(table.entries.max()) for table in tables)
    top = 255 if highest < 256 else max(table.top for table in tables)  # some call 8-bit entries 16 bits wide
    return np.stack([np.rint(table.apply(stored) * (255 / top)).astype(np.uint8) for table in tables], axis=-1)


def _shows(window: Window, ends: tuple[float, float], function: Function) -> bool:
    """Whether a window parts values that lie between these ends; some files have one in other units, or of no width."""
    center, width = window
    is_wide = isfinite(center) and isfinite(width) and (width >= 1 if function == "LINEAR" else width > 0)
    return is_wide and center - width / 2 < ends[1] and center + width / 2 > ends[0]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return nan
