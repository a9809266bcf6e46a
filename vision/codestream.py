"""Codestreams: what a compressed frame says about itself, read before any decoder sees it.

Knows the headers of JPEG (and JPEG-LS), JPEG 2000 and DICOM's RLE. Does not know how to decode, or DICOM files.
"""

from struct import unpack_from
from typing import NamedTuple

_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_JPEG_LS = 0xF7
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
RLE_GROWTH = 64
"""Two bytes of RLE become 128 at most (PS3.5 annex G)."""
MOST_SCANS = 100
"""Of a JPEG, as libtiff allows: each goes over the whole picture again, and a thousand hold no more than a few bytes."""


def refuse_endless(frame: bytes) -> None:
    """Raises ValueError for a JPEG of more than MOST_SCANS scans; within their data this marker cannot stand (T.81 B.1.1.5)."""
    if frame.count(b"\xff\xda") > MOST_SCANS:
        raise ValueError("The codestream has too many scans.")


class Declared(NamedTuple):
    """The size, samples per pixel and bits per sample that a codestream declares."""

    width: int
    height: int
    samples: int
    bits: int


def declared(frame: bytes) -> Declared:
    """What a JPEG's SOF (ITU T.81 B.2.2) or a JPEG 2000's SIZ (ITU T.800 A.5.1) says. Raises ValueError without either."""
    try:
        return _jpeg(frame) if frame.startswith(b"\xff\xd8") else _jpeg_2000(frame)
    except (IndexError, OverflowError) as error:
        raise ValueError("The codestream breaks off in its header.") from error
    except Exception as error:
        raise ValueError("The codestream has no header.") from error


def _jpeg(frame: bytes) -> Declared:
    place = 2
    while True:
        if frame[place] != 0xFF:
            raise ValueError("This is not a marker.")
        marker = frame[place + 1]
        if marker == 0xFF or marker in _BARE:
            place += 1 if marker == 0xFF else 2
        elif marker in _FRAMES:
            refuse_endless(frame)
            if marker == _JPEG_LS and b"\xff\xd9" not in frame[-16:]:  # CharLS would look for its end for ever
                raise ValueError("The codestream breaks off.")
            bits, height, width, samples = unpack_from(">BHHB", frame, place + 4)
            return Declared(width, height, samples, bits)
        else:
            place += 2 + unpack_from(">H", frame, place + 2)[0]


def _jpeg_2000(frame: bytes) -> Declared:
    start = frame.index(b"\xff\x4f\xff\x51")  # behind the boxes of a JP2 file, if there are any
    right, bottom, left, top = unpack_from(">4I", frame, start + 8)
    samples, depth = unpack_from(">HB", frame, start + 40)
    return Declared(right - left, bottom - top, samples, (depth & 0x7F) + 1)


def rle_segments(frame: bytes) -> int:
    """How many segments an RLE frame declares (PS3.5 annex G.5)."""
    return int(unpack_from("<I", frame)[0])
