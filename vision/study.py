"""Studies: one uploaded image and what is known about it.

Knows bytes and pixels. Does not know language, models or where the bytes came from.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vision.codestream import refuse_endless
from vision.tiling import Box
from vision.windowing import Raw, Window, presets, render

MAX_BYTES = 2 << 30
MAX_PIXELS = 200_000_000
MIN_SIDE = 8
FORMATS = "DICOM, JPEG, PNG, WEBP, BMP, TIFF, GIF"

Reason = Literal[
    "empty", "unknown_format", "convert_first", "broken", "too_small", "too_many_pixels", "too_many_bytes",
    "not_enough_memory", "took_too_long", "dicom_directory", "dicom_no_image", "dicom_compression", "dicom_preamble",
]  # fmt: skip


_ONE_AT_A_TIME = Lock()


class StudyError(Exception):
    """This file cannot become a study. `reason` names the fact; `fields` hold the numbers for the person's language."""

    def __init__(self, reason: Reason, message: str, **fields: int | str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.fields = fields

    @classmethod
    def again(cls, reason: Reason, message: str, fields: dict[str, int | str]) -> "StudyError":
        """The same error, told by another process."""
        return cls(reason, message, **fields)


@dataclass(frozen=True)
class Study:
    """One image in 8-bit RGB and what is known of it; never a name, a free text, a date or a path.

    `raw` holds the values behind a grey image, in its frame; None for colour. `window` is the (center, width) in these values
    that the image shows, `is_inverted` whether it was then turned over; None for a plain 8-bit picture or a lookup table.
    From a DICOM header alone, else None: `modality`, `view` ("PA"), `laterality` ("R", "L", "B") and `spacing`, the millimetres
    from row to row and from column to column, of the tag that `spacing_from` names: ImagerPixelSpacing is measured on the
    detector; PixelSpacing is preferred, and the patient's where it differs. The image is the first of `frames`.
    """

    image: Image.Image
    modality: str | None = None
    window: Window | None = None
    spacing: tuple[float, float] | None = None
    spacing_from: Literal["PixelSpacing", "ImagerPixelSpacing"] | None = None
    view: str | None = None
    laterality: str | None = None
    frames: int = 1
    raw: Raw | None = None
    is_inverted: bool = False

    @property
    def box(self) -> Box:
        """The whole image."""
        return Box(0, 0, *self.image.size)

    def windowed(self, center: float, width: float, inverted: bool = False) -> "Study":
        """The same study through another window of its raw values; a study in colour stays as it is.

        Raises ValueError for a window that shows nothing: a width under 1, or numbers that are not finite.
        """
        if self.raw is None:
            return self
        image = render(self.raw, center, width, inverted).convert("RGB")
        return replace(self, image=image, window=(center, width), is_inverted=inverted)

    def presets(self) -> dict[str, Window]:
        """Named windows for this study, as `windowing.presets` says; none for colour."""
        return presets(self.raw, self.modality) if self.raw is not None else {}


def read_study(data: bytes, max_pixels: int = MAX_PIXELS) -> Study:
    """The first image of a DICOM, JPEG (or MPO), PNG, WEBP, BMP, TIFF or GIF file, upright, in 8-bit RGB, without identity.

    The size is checked in the header, before any pixel is decoded; nothing is ever shrunk. Greyscale of more
    than 8 bits is windowed. The file is opened in a child process with limits (`vision/guard.py`); two of them serve any
    number of threads. Raises StudyError, and nothing else, whatever the bytes are.
    """
    from vision.decode import decode  # here, for it imports this file

    reader = _reader(data)
    with _told(reader):
        return decode(data, max_pixels)


def read_trusted(data: bytes, max_pixels: int = MAX_PIXELS, admit: Callable[[int], None] = lambda samples: None) -> Study:
    """The same in this process: for thousands of files of one's own, as what breaks a decoder or fills the memory hits all.

    `admit` is called with the number of samples before they are decoded.
    """
    reader = _reader(data)
    # Warnings go through filters that belong to the whole process, and one large image fills
    # enough memory: so one file at a time. The filter is narrow, for another thread may restore it late.
    with _told(reader), _ONE_AT_A_TIME, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")
        if reader is None:
            from vision.dicom import read_dicom  # here, for it imports this file; and few ever need pydicom

            return read_dicom(data, max_pixels, admit)
        from vision.raster import read_raster

        if reader is WebPImageFile:
            admit(max_pixels)  # it makes its canvas when it is opened
        file = reader(io.BytesIO(data))
        refuse_by_size(*file.size, max_pixels)
        admit(file.width * file.height)
        if reader is JpegImageFile:
            refuse_endless(data)
        return read_raster(file)


@contextmanager
def _told(reader: type[ImageFile] | None) -> Iterator[None]:
    """The one place where whatever happens to a file of this reader becomes a StudyError; None is DICOM's."""
    name = str(reader.format) if reader else "DICOM"
    try:
        yield
    except StudyError:
        raise
    except MemoryError:
        message = f"This {name} file needs more memory than is free. Close other programs, or choose a smaller image."
        raise StudyError("not_enough_memory", message, format=name) from None
    except TimeoutError:
        message = f"This {name} file takes too long to open. Save it again, or choose a smaller image."
        raise StudyError("took_too_long", message, format=name) from None
    except Exception as error:  # the libraries raise nearly every class there is; a fuzzed file finds them all
        message = f"This {name} file is damaged, incomplete or of a rare kind. Save it again, or convert it to PNG."
        raise StudyError("broken", message, format=name) from (error if reader else None)


class _TiffFile(TiffImageFile):
    """A TIFF whose size is held against our limit alone; Pillow would check a global of its own once more."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size, None).im
        ImageFile.load_prepare(self)


# The classes stand for Image.open, which has global limits, and would try formats that nobody asked for.
_READERS: dict[bytes, type[ImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,  # and MPO: its first picture is an ordinary JPEG
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"GIF87a": GifImageFile,
    b"GIF89a": GifImageFile,
    b"BM": BmpImageFile,
    b"II*\0": _TiffFile,
    b"MM\0*": _TiffFile,
    b"II+\0": _TiffFile,
    b"MM\0+": _TiffFile,
}

_CONVERTIBLE: dict[bytes, str] = {
    b"%!PS": "EPS",
    b"8BPS": "PSD",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
}

_BRANDS: dict[bytes, str] = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"
)


def _reader(data: bytes) -> type[ImageFile] | None:
    """Pillow's class for this file, None for DICOM; raises StudyError for what is not on the list, named where it can be."""
    if not data:
        raise StudyError("empty", "This file is empty. Choose it again, or save it anew.")
    if len(data) > MAX_BYTES:
        message = f"This file holds {len(data):,} bytes; Hilum reads up to {MAX_BYTES:,}. Save the image alone, or compressed."
        raise StudyError("too_many_bytes", message, limit=MAX_BYTES)
    if _is_dicom(data):
        return None
    for magic, reader in _READERS.items():
        if data.startswith(magic):
            return reader
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile
    name = _convertible(data)
    if name is not None:
        message = f"This is a file in {name} format. Convert it to PNG, and choose that one; Hilum reads {FORMATS}."
        raise StudyError("convert_first", message, format=name, formats=FORMATS)
    message = f"This is not an image that Hilum knows, whatever its name says. It reads {FORMATS}."
    raise StudyError("unknown_format", message, formats=FORMATS)


def _is_dicom(data: bytes) -> bool:
    """By its prefix; without a preamble by the first group, 2 or 8, in either byte order.

    Raises StudyError for a preamble that makes it another kind of file as well, such as a program: PS3.10 7.1 has it blank
    or, for files that are read as TIFF too, with its header.
    """
    if data[128:132] == b"DICM":
        is_plain = data.startswith((bytes(4), b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) and b"%PDF-" not in data[:128]
        if is_plain:
            return True
        message = "This DICOM file begins as another kind of file, which can hide a program. Export it again from its source."
        raise StudyError("dicom_preamble", message)
    is_little = data[:2] in (b"\x02\0", b"\x08\0") and data[3:4] == b"\0"
    return is_little or (data[:3] in (b"\0\x02\0", b"\0\x08\0") and data[4:6].isalpha() and data[4:6].isupper())


def _convertible(data: bytes) -> str | None:
    """The name of a format that we do not read and that the person can convert."""
    for magic, name in _CONVERTIBLE.items():
        if data.startswith(magic):
            return name
    if b"%PDF-" in data[:1024]:
        return "PDF"
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    text = data[:4096].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()  # UTF-16 becomes readable too
    return "SVG" if text.startswith(b"<") and b"<svg" in text and b"<html" not in text else None


def refuse_by_size(width: int, height: int, max_pixels: int) -> None:
    """Raises StudyError for a side under MIN_SIDE, or more than `max_pixels` in all."""
    if min(width, height) < MIN_SIDE:
        message = f"This image is {width:,} x {height:,} pixels; there is nothing to see in a side under {MIN_SIDE}."
        raise StudyError("too_small", message, width=width, height=height, minimum=MIN_SIDE)
    if width * height > max_pixels:
        message = (
            f"This image is {width:,} x {height:,} pixels, {width * height:,} in all; "
            f"Hilum reads up to {max_pixels:,}. Crop it, or raise --max-pixels."
        )
        raise StudyError("too_many_pixels", message, width=width, height=height, limit=max_pixels)
