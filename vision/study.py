"""Studies: one uploaded image and what is known about it.

Knows bytes and pixels. Does not know language, models or where the bytes came from.
"""

import io
import warnings
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray
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

MAX_PIXELS = 200_000_000
MIN_SIDE = 8
FORMATS = "JPEG, PNG, WEBP, BMP, TIFF, GIF"

Reason = Literal[
    "empty", "unknown_format", "convert_first", "dicom", "broken", "too_small", "too_many_pixels", "not_enough_memory"
]


_ONE_AT_A_TIME = Lock()


class StudyError(Exception):
    """This file cannot become a study. `reason` names the fact; `fields` hold the numbers for the person's language."""

    def __init__(self, reason: Reason, message: str, **fields: int | str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.fields = fields


@dataclass(frozen=True)
class Study:
    """One image in 8-bit RGB; never a name, a tag or a path.

    `window` is (center, width) in the file's own values when these were wider than 8 bits.
    """

    image: Image.Image
    modality: str | None = None
    window: tuple[float, float] | None = None
    spacing: tuple[float, float] | None = None

    @property
    def box(self) -> Box:
        """The whole image."""
        return Box(0, 0, *self.image.size)


def read_study(data: bytes, max_pixels: int = MAX_PIXELS) -> Study:
    """The first image of a JPEG (or MPO), PNG, WEBP, BMP, TIFF or GIF file, upright, in 8-bit RGB, without metadata.

    The size is checked in the header, before any pixel is decoded; nothing is ever shrunk. Greyscale of more
    than 8 bits is windowed. Raises StudyError, and nothing else, whatever the bytes are.
    """
    reader = _reader(data)
    name = str(reader.format)
    try:
        # Pillow's warnings go through filters that belong to the whole process, and one large image fills
        # enough memory: so one file at a time. The filter is narrow, for another thread may restore it late.
        with _ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            file = reader(io.BytesIO(data))
            _refuse_by_size(*file.size, max_pixels)
            return _decoded(file)
    except StudyError:
        raise
    except MemoryError:
        message = f"This {name} file needs more memory than is free. Close other programs, or choose a smaller image."
        raise StudyError("not_enough_memory", message, format=name) from None
    except Exception as error:  # Pillow raises nearly every class there is; a fuzzed file finds them all
        message = f"This {name} file is damaged, incomplete or of a rare kind. Save it again, or convert it to PNG."
        raise StudyError("broken", message, format=name) from error


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
    if data[128:132] == b"DICM" or (data[:2] in (b"\x02\0", b"\x08\0") and data[3:4] == b"\0"):
        message = "This is a DICOM file, which this version does not read. Export the image as PNG, 16-bit if you can."
        raise StudyError("dicom", message)
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


def _refuse_by_size(width: int, height: int, max_pixels: int) -> None:
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
    window = None
    image: Image.Image = file
    if file.mode in ("I", "F") or file.mode.startswith("I;16"):
        # Pillow inverts "white is zero" for 8 bits and forgets to for more.
        is_negative = isinstance(file, TiffImageFile) and file.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        image, window = _windowed(np.asarray(file), is_negative)
    elif file.has_transparency_data:
        image = _on_paper(file.convert("RGBA"))
    image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(turn)
    image.info.clear()
    return Study(image, window=window)


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


Pixels = NDArray[np.integer | np.floating]  # (height, width)


def _windowed(pixels: Pixels, is_negative: bool) -> tuple[Image.Image, tuple[float, float] | None]:
    """Values of any width as 8-bit grey, and the (center, width) that was used; NaN and infinities become black.

    What has only one value becomes mid-grey.
    """
    grey = np.full(pixels.shape, 128, np.uint8)
    ends = _ends(pixels)
    if ends is None:
        return Image.fromarray(grey), None
    low, high = ends
    for rows in _row_blocks(pixels.shape):
        values = np.nan_to_num(pixels[rows].astype(np.float64), nan=low, posinf=low, neginf=low)
        share = (np.clip(values, low, high) - low) / (high - low)
        grey[rows] = np.rint(255 * (1 - share if is_negative else share)).astype(np.uint8)
    return Image.fromarray(grey), ((low + high) / 2, high - low)


def _ends(pixels: Pixels) -> tuple[float, float] | None:
    """The lowest and the highest finite value; None when there are no two.

    The outermost thousandths (a hot pixel, a burned-in mark) are left out when they hold more than half of the range.
    """
    step = max(1, pixels.size // 1_000_000)
    lows, highs, sample = [], [], []
    for rows in _row_blocks(pixels.shape):
        values = pixels[rows][np.isfinite(pixels[rows])]
        if values.size:
            lows.append(values.min())
            highs.append(values.max())
            sample.append(values[::step].astype(np.float64))
    low, high = (float(min(lows)), float(max(highs))) if lows else (0.0, 0.0)
    if low == high:
        return None
    inner_low, inner_high = (float(end) for end in np.percentile(np.concatenate(sample), (0.1, 99.9)))
    return (inner_low, inner_high) if 0 < inner_high - inner_low < (high - low) / 2 else (low, high)


def _row_blocks(shape: tuple[int, ...]) -> list[slice]:
    """Slices of rows that hold about a million pixels each, so that a wide copy of an image never stands whole."""
    height, width = shape
    rows = max(1, 1_000_000 // width)
    return [slice(top, top + rows) for top in range(0, height, rows)]
