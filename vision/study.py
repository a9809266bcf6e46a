"""Studies: one uploaded image and what is known about it.

Knows bytes and pixels. Does not know language, models or where the bytes came from.
"""

import io
import warnings
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vision.tiling import Box
from vision.windowing import Function, Raw, Window, first_look, presets, render

MAX_PIXELS = 200_000_000
MIN_SIDE = 8
FORMATS = "DICOM, JPEG, PNG, WEBP, BMP, TIFF, GIF"

Reason = Literal[
    "empty", "unknown_format", "convert_first", "broken", "too_small", "too_many_pixels", "not_enough_memory",
    "dicom_directory", "dicom_no_image", "dicom_compression",
]  # fmt: skip


_ONE_AT_A_TIME = Lock()


class StudyError(Exception):
    """This file cannot become a study. `reason` names the fact; `fields` hold the numbers for the person's language."""

    def __init__(self, reason: Reason, message: str, **fields: int | str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.fields = fields


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
    than 8 bits is windowed. Raises StudyError, and nothing else, whatever the bytes are.
    """
    reader = None if _is_dicom(data) else _reader(data)
    name = str(reader.format) if reader else "DICOM"
    try:
        # Warnings go through filters that belong to the whole process, and one large image fills
        # enough memory: so one file at a time. The filter is narrow, for another thread may restore it late.
        with _ONE_AT_A_TIME, warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")
            if reader is None:
                from vision.dicom import read_dicom  # here, for it imports this file; and few ever need pydicom

                return read_dicom(data, max_pixels)
            file = reader(io.BytesIO(data))
            refuse_by_size(*file.size, max_pixels)
            return _decoded(file)
    except StudyError:
        raise
    except MemoryError:
        message = f"This {name} file needs more memory than is free. Close other programs, or choose a smaller image."
        raise StudyError("not_enough_memory", message, format=name) from None
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


def _reader(data: bytes) -> type[ImageFile]:
    """Pillow's class for this file; raises StudyError for what is not on the list, named where it can be."""
    if not data:
        raise StudyError("empty", "This file is empty. Choose it again, or save it anew.")
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
    """By its prefix; without a preamble by the first group, 2 or 8, in either byte order."""
    is_little = data[:2] in (b"\x02\0", b"\x08\0") and data[3:4] == b"\0"
    is_big = data[:3] in (b"\0\x02\0", b"\0\x08\0") and data[4:6].isalpha() and data[4:6].isupper()
    return data[128:132] == b"DICM" or is_little or is_big


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


def _decoded(file: ImageFile) -> Study:
    file.load()
    turn = _turn(file)
    image: Image.Image = file.transpose(turn) if turn is not None else file
    window = None
    if file.mode in ("I", "F") or file.mode.startswith("I;16"):
        # Pillow inverts "white is zero" for 8 bits and forgets to for more.
        is_negative = isinstance(file, TiffImageFile) and file.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        values = np.asarray(image)
        function: Function = "LINEAR_EXACT" if file.mode == "F" else "LINEAR"
        wide = Raw(values, bits=8 * values.itemsize, is_negative=is_negative, function=function)
        grey, window = first_look(wide)
        raw: Raw | None = wide
        image = grey.convert("RGB")
    else:
        image = (_on_paper(image.convert("RGBA")) if file.has_transparency_data else image).convert("RGB")
        raw = _grey_of(image)
    image.info.clear()
    return Study(image, window=window, raw=raw)


def _grey_of(image: Image.Image) -> Raw | None:
    """The values of an RGB image whose channels are all the same; None for colour, which a sample mostly shows at once."""
    sample = np.asarray(image.resize((min(64, image.width), min(64, image.height)), Image.Resampling.NEAREST))
    if np.ptp(sample, axis=-1).any():
        return None
    red, green, blue = (np.asarray(channel) for channel in image.split())
    return Raw(red) if np.array_equal(red, green) and np.array_equal(red, blue) else None


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(file: ImageFile) -> Image.Transpose | None:
    """What sets a loaded file upright, by its EXIF. Pillow has turned a TIFF by then; a damaged EXIF says nothing."""
    if isinstance(file, TiffImageFile):
        return None
    try:
        return _TURNS.get(file.getexif().get(Base.Orientation, 1))
    except Exception:  # the pixels are whole; only the note beside them is not
        return None


def _on_paper(image: Image.Image) -> Image.Image:
    """An RGBA image on white; on black when what it shows is itself white; as it is when its alpha hides everything."""
    alpha, colours = image.getchannel("A"), image.convert("RGB")
    shades = colours.convert("L").histogram(alpha)
    if not any(shades):
        return colours
    is_white = sum(shades[:240]) < 0.01 * sum(shades)
    paper = Image.new("RGB", image.size, "black" if is_white else "white")
    paper.paste(colours, mask=alpha)
    return paper
