"""Layouts: how a DICOM file stores its pixels, and which transfer syntaxes can be opened.

Knows headers. Does not know pydicom, though fields and decoders bear its names, or pixels.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from vision.header import Header
from vision.study import StudyError

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT, DEFLATED, BIG_ENDIAN, RLE = (f"{IMPLICIT}.{end}" for end in ("1", "1.99", "2", "5"))
NATIVE = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)
# Which of pydicom's decoders opens what. 12 bits of JPEG Extended (.51) would need one under the GPL.
DECODERS = {RLE: "pylibjpeg", **dict.fromkeys((f"{IMPLICIT}.4.50", f"{IMPLICIT}.4.51"), "pillow")}
DECODERS |= dict.fromkeys((f"{IMPLICIT}.4.57", f"{IMPLICIT}.4.70"), "gdcm")
DECODERS |= dict.fromkeys((f"{IMPLICIT}.4.80", f"{IMPLICIT}.4.81"), "pyjpegls")
DECODERS |= dict.fromkeys((f"{IMPLICIT}.4.{end}" for end in (90, 91, 201, 202, 203)), "pylibjpeg")


@dataclass(frozen=True)
class Layout:
    """How the pixels of a file are stored. All fields but `syntax` bear the names of pydicom's decoding options."""

    syntax: str
    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    planar_configuration: int
    photometric_interpretation: str
    number_of_frames: int
    pixel_keyword: str
    pixel_vr: str

    @property
    def samples(self) -> int:
        return self.rows * self.columns * self.samples_per_pixel

    @property
    def frame_bytes(self) -> int:
        """The length of one frame, not compressed."""
        whole = ceil(self.samples * self.bits_allocated / 8)
        is_halved = self.photometric_interpretation == "YBR_FULL_422" and self.syntax in NATIVE
        return whole * 2 // 3 if is_halved else whole

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a sample in this machine's byte order."""
        kind = "f" if self.pixel_keyword != "PixelData" else "ui"[self.pixel_representation]
        return np.dtype(f"{kind}{max(1, self.bits_allocated // 8)}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows, self.columns) if self.samples_per_pixel == 1 else (self.rows, self.columns, self.samples_per_pixel)


def layout_of(header: Header, syntax: str, keyword: str, vr: str) -> Layout:
    """Raises StudyError for a compression that nothing here decodes, ValueError for what makes no sense."""
    is_whole = keyword == "PixelData"
    allocated = int(header.number("BitsAllocated", 0)) if is_whole else 32 if keyword == "FloatPixelData" else 64
    stored = int(header.number("BitsStored", allocated)) if is_whole else allocated
    if syntax not in (*NATIVE, *DECODERS) or (syntax.endswith(".4.51") and stored > 8):
        message = "This DICOM file is compressed in a way that Hilum does not read. Save it uncompressed, or as 16-bit PNG."
        raise StudyError("dicom_compression", message)
    layout = Layout(
        syntax,
        rows=int(header.number("Rows", 0)),
        columns=int(header.number("Columns", 0)),
        samples_per_pixel=int(header.number("SamplesPerPixel", 1)),
        bits_allocated=allocated,
        bits_stored=stored,
        pixel_representation=int(header.number("PixelRepresentation", 0)),
        planar_configuration=int(header.number("PlanarConfiguration", 0)),
        photometric_interpretation=(header.term("PhotometricInterpretation") or "").replace("PALETTE_", "PALETTE "),
        number_of_frames=max(1, int(header.number("NumberOfFrames", 1))),
        pixel_keyword=keyword,
        pixel_vr=vr,
    )
    is_colour = layout.photometric_interpretation.startswith(("RGB", "YBR"))
    makes_sense = (
        min(layout.rows, layout.columns) > 0
        and layout.photometric_interpretation
        and layout.samples_per_pixel == (3 if is_colour else 1)
        and (not is_whole or allocated in (1, 8, 16, 32))
        and 1 <= stored <= allocated
        and {layout.pixel_representation, layout.planar_configuration} <= {0, 1}
    )
    if not makes_sense:
        raise ValueError("The pixels are stored in a way that makes no sense.")
    return layout
