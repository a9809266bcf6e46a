"""DICOM: the first frame of a file, and what its header says about how to look at it.

Knows pydicom and the tags listed here, none of which is of a person, a place, a date or an identifier; no other is kept.
Does not know Pillow's formats, language or pages.
"""

import io
import logging
import zlib
from collections.abc import Callable, MutableSequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import BaseTag, Tag

from vision.codestream import RLE_GROWTH, declared, rle_segments
from vision.header import COLOURS, TERMS, Header, grey_values, painted
from vision.layout import BIG_ENDIAN, DECODERS, DEFLATED, EXPLICIT, IMPLICIT, NATIVE, RLE, Layout, layout_of
from vision.study import Study, StudyError, refuse_by_size
from vision.windowing import Lut, Raw, Window, first_look

config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # its messages quote values

DIRECTORY = "1.2.840.10008.1.3.10"

_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_VALUES = [
    *(*TERMS, "PixelSpacing", "ImagerPixelSpacing", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"),
]
_LUTS = ("ModalityLUTSequence", "VOILUTSequence")
_PALETTES = {colour: f"{colour}PaletteColorLookupTable" for colour in COLOURS}
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS = ("PixelMeasuresSequence", "FrameVOILUTSequence", "PixelValueTransformationSequence")
_TABLES = [f"{name}{part}" for name in _PALETTES.values() for part in ("Descriptor", "Data")]
_WANTED = [Tag(keyword) for keyword in (*_VALUES, *_LUTS, *_GROUPS, *_TABLES)]

HEADER_BYTES = 32 << 20
"""How much of a deflated file is unpacked to find its pixels."""
MOST_READS = 200_000
"""Elements and items before the pixels: each becomes an object of a kilobyte or two, whatever its size in the file."""
MOST_SEQUENCE, MOST_TEXT = 1 << 20, 4096
"""Bytes of a sequence and of any other value that are converted; for the same reason."""


def read_dicom(data: bytes, max_pixels: int, admit: Callable[[int], None]) -> Study:
    """The first frame: colours as they are; grey through the header's lookup table or first window, or else an automatic one.

    A compressed frame is decoded after its own header was held against the tags, and any after `admit(samples)`. Raises
    StudyError for what is no image, too large or compressed in an unknown way; every other exception means a damaged file.
    """
    header, layout, pixels = _opened(data, max_pixels, admit)
    if layout.syntax in NATIVE and len(pixels) < layout.frame_bytes:
        raise ValueError("The pixels break off.")
    in_words = layout.frame_bytes + layout.frame_bytes % 2
    stored = _decoded(layout, pixels[:in_words] if layout.syntax in NATIVE else _first_frame(layout, pixels))
    if layout.syntax in (*NATIVE, RLE):
        stored = _without_unused_bits(stored, layout, int(header.number("HighBit", layout.bits_stored - 1)))
    raw: Raw | None = None
    window: Window | None = None
    if layout.samples_per_pixel == 3:
        top = 2**layout.bits_stored - 1
        image = Image.fromarray(stored if top == 255 else np.rint(stored * (255 / top)).astype(np.uint8))
    elif layout.photometric_interpretation == "PALETTE COLOR":
        image = Image.fromarray(painted(header, stored))
    else:
        raw = grey_values(header, stored, layout.bits_stored)
        image, window = first_look(raw)
    spacing = header.spacing("PixelSpacing")
    on_detector = header.spacing("ImagerPixelSpacing")
    is_on_detector = on_detector is not None and spacing in (None, on_detector)
    return Study(
        image.convert("RGB"),
        modality=header.term("Modality"),
        window=window,
        spacing=spacing or on_detector,
        spacing_from="ImagerPixelSpacing" if is_on_detector else "PixelSpacing" if spacing else None,
        view=header.term("ViewPosition"),
        laterality=header.term("ImageLaterality") or header.term("Laterality"),
        frames=layout.number_of_frames,
        raw=raw,
    )


class _File(io.BytesIO):
    """A file of which only so many pieces may be read."""

    reads = MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads -= 1
        if self.reads < 0:
            raise ValueError("The header has too many elements.")
        return super().read(size)


def _opened(data: bytes, max_pixels: int, admit: Callable[[int], None]) -> tuple[Header, Layout, memoryview]:
    """The header, the layout, and all from the pixels on; of a deflated file no more than is needed for one frame."""
    file = _File(data)
    start = 132 if data[128:132] == b"DICM" else 0
    file.seek(start)
    syntax, is_little = "", data[start : start + 1] != b"\0"  # the first group is 2 or 8
    if is_little:
        wanted = [Tag("TransferSyntaxUID"), Tag("MediaStorageSOPClassUID")]
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2, specific_tags=[*wanted])
        syntax = "".join(_texts(meta, "TransferSyntaxUID"))
        if "".join(_texts(meta, "MediaStorageSOPClassUID")) == DIRECTORY:
            message = "This is a DICOMDIR, the table of contents of a disc. Choose one of the image files beside it."
            raise StudyError("dicom_directory", message)
    start = file.tell()
    if not syntax:
        vr = data[start + 4 : start + 6]
        syntax = IMPLICIT if not (vr.isalpha() and vr.isupper()) else EXPLICIT if is_little else BIG_ENDIAN
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    if syntax == DEFLATED:
        data = inflater.decompress(data[start:], HEADER_BYTES)
        file = _File(data)
    found: list[tuple[int, str, int, int]] = []

    def is_reached(tag: BaseTag, vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            found.append((tag, vr or "OW", length, file.tell()))
        return tag in _PIXELS or tag > max(_PIXELS)

    tags = read_dataset(file, syntax == IMPLICIT, syntax != BIG_ENDIAN, stop_when=is_reached, specific_tags=[*_WANTED])
    if not found:
        message = "This DICOM file holds no image: it is a report or a plan, or breaks off. Choose an image of the same study."
        raise StudyError("dicom_no_image", message)
    tag, pixel_vr, length, offset = found[-1]
    header = _plain(tags)
    layout = layout_of(header, syntax, _PIXELS[tag], pixel_vr)
    sample_bytes = layout.samples_per_pixel * layout.bits_allocated // 8
    refuse_by_size(layout.columns, layout.rows, max_pixels * 4 // max(4, sample_bytes))  # pixels over four bytes weigh more
    admit(layout.samples)
    end = len(data) if length == 0xFFFFFFFF else offset + length
    missing = offset + layout.frame_bytes + 1 - len(data)
    if syntax == DEFLATED and missing > 0:
        data += inflater.decompress(inflater.unconsumed_tail, missing)
    return header, layout, memoryview(data)[offset:end]


def _decoded(layout: Layout, pixels: bytes | memoryview) -> NDArray[Any]:
    """(rows, columns), or (rows, columns, 3) in RGB, of one frame: bare, or encapsulated when it is compressed."""
    options: dict[str, Any] = asdict(layout) | {"number_of_frames": 1, "correct_unused_bits": False}
    decoder = get_decoder(EXPLICIT if options.pop("syntax") == DEFLATED else layout.syntax)
    array, _ = decoder.as_array(pixels, index=0, decoding_plugin=DECODERS.get(layout.syntax, ""), **options)
    return array.astype(layout.dtype, copy=False)


def _first_frame(layout: Layout, stream: memoryview) -> bytes:
    """An encapsulated stream of the first frame alone. Raises ValueError when its own header says other than the tags."""
    frame = get_frame(bytes(stream), 0, number_of_frames=layout.number_of_frames)
    if layout.syntax == RLE:
        agrees = rle_segments(frame) == layout.samples_per_pixel * layout.bits_allocated // 8
        agrees = agrees and layout.frame_bytes <= RLE_GROWTH * len(frame)
    else:
        *size, bits = declared(frame)
        agrees = size == [layout.columns, layout.rows, layout.samples_per_pixel] and bits <= layout.bits_allocated
    if not agrees:
        raise ValueError("The frame's own header says other than the tags.")
    return encapsulate([frame])


def _without_unused_bits(stored: NDArray[Any], layout: Layout, high_bit: int) -> NDArray[Any]:
    """Values without what stands above the high bit (overlays, in old files) or below the lowest one; signs are extended."""
    unused = layout.bits_allocated - layout.bits_stored
    above = layout.bits_allocated - 1 - high_bit
    return (stored << (above if 0 <= above <= unused else unused)) >> unused if unused else stored


def _plain(tags: Dataset) -> Header:
    """The values of a header; what an enhanced file says of all frames, or of the first, stands where a plain file says it."""
    groups = [group for name in _GROUPS for group in _items(tags, name)[:1]]
    scopes = [tags, *(macro for group in groups for name in _MACROS for macro in _items(group, name)[:1])]
    texts = {keyword: text for keyword in _VALUES for scope in reversed(scopes) if (text := _texts(scope, keyword))}
    tables = {name: _table(items[0], "LUT") for name in _LUTS for scope in scopes if (items := _items(scope, name))}
    tables |= {colour: _table(tags, name) for colour, name in _PALETTES.items()}
    return Header(texts, {name: table for name, table in tables.items() if table is not None})


def _table(item: Dataset, name: str) -> Lut | None:
    """PS3.3 C.11.1.1.1: the descriptor holds the number of entries (0 is 65,536), the first value, the bits of an entry."""
    descriptor, data = item.get_item(f"{name}Descriptor"), item.get_item(f"{name}Data")
    if not (descriptor and data and isinstance(descriptor.value, bytes) and isinstance(data.value, bytes) and data.value):
        return None
    order = "<" if getattr(data, "is_little_endian", True) else ">"
    count, first, bits = (int(number) for number in np.frombuffer(descriptor.value[:6], f"{order}u2"))
    count = count or 65_536
    is_wide = len(data.value) >= 2 * count
    entries = np.frombuffer(data.value[: 2 * count if is_wide else count], f"{order}u{2 if is_wide else 1}").astype(np.uint16)
    return Lut(first, entries, top=max(int(entries.max()), 2 ** min(bits, 16) - 1, 1))


def _texts(tags: Dataset, keyword: str) -> tuple[str, ...]:
    value = _value(tags, keyword, MOST_TEXT)
    values = value if isinstance(value, MutableSequence | list | tuple) else () if value is None else (value,)
    return tuple(str(item) for item in values)


def _items(tags: Dataset, keyword: str) -> list[Dataset]:
    value = _value(tags, keyword, MOST_SEQUENCE)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, MutableSequence) else []


def _value(tags: Dataset, keyword: str, most_bytes: int) -> Any:
    """What a tag holds, converted; None when it is not there, too long, or of a wrong kind."""
    element = tags.get_item(keyword)
    if element is None or (isinstance(element.value, bytes) and len(element.value) > most_bytes):
        return None
    try:
        return tags[keyword].value
    except MemoryError:
        raise
    except Exception:  # pydicom raises nearly every class there is
        return None
