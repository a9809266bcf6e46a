"""Bad files: inputs made by hand to break a decoder, the same ones every time.

Truncated, lying, endless, swollen, of two kinds at once, or merely odd. Knows the formats down to their bytes; does not know
what is made of them. None holds more than a few megabytes.
"""

import gzip
import io
import pickle
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

NATIVE = "1.2.840.10008.1.2"
EXPLICIT, BIG, DEFLATED, RLE = (f"{NATIVE}.{end}" for end in ("1", "2", "1.99", "5"))
JPEG, JPEG_LS, JPEG_2000 = (f"{NATIVE}.4.{end}" for end in ("50", "80", "90"))
X, Y = np.meshgrid(np.linspace(0, 1, 60), np.linspace(0, 1, 44))
PICTURE = Image.fromarray(np.rint(255 * np.stack([X, Y, 1 - X * Y], axis=-1)).astype(np.uint8))
PNG_HEAD, WORD = b"\x89PNG\r\n\x1a\n", 0xFFFFFFFF


def bad_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of every file."""
    for kind, files in [
        ("other", OTHERS), ("png", dict(pngs())), ("jpeg", dict(jpegs())), ("gif", dict(gifs())), ("bmp", dict(bmps())),
        ("tiff", dict(tiffs())), ("webp", dict(webps())), ("dicom", dict(dicoms())), ("frame", dict(frames())),
        ("damaged", dict(damaged())),
    ]:  # fmt: skip
        yield from ((f"{kind}: {name}", data) for name, data in files.items())


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a pickle was run",)


LAUGHS = '<!DOCTYPE svg [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
)  # fmt: skip
OTHERS = {
    "nothing": b"", "one byte": b"\0", "zeros": bytes(100_000), "text": b"Dear doctor,\n" * 99, "zip": b"PK\3\4" + bytes(500),
    "gzip bomb": gzip.compress(bytes(50 << 20), mtime=0), "ELF": b"\x7fELF\2\1\1" + bytes(200), "PE": b"MZ\x90\0" + bytes(300),
    "script": b"#!/bin/sh\ntouch /tmp/broken\n", "page": b"<html><img src=x onerror=alert(1)></html>", "JSON": b'{"a": ' * 9999,
    "SVG of entities": (LAUGHS + "]><svg>&j;</svg>").encode(), "UTF-16 SVG": "<svg width='9'/>".encode("utf-16"),
    "PDF": b"%PDF-1.7\n1 0 obj<</Length 99999999>>", "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0",
    "AVIF": b"\0\0\0\x1cftypavif" + bytes(99),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "bare JPEG 2000": b"\xff\x4f\xff\x51" + b"\xff" * 99,
    "PSD": b"8BPS\0\1" + b"\xff" * 99,
    "EPS": b"%!PS-Adobe-3.0\n{} loop", "sound": b"RIFF\xff\0\0\0WAVEfmt ", "half a RIFF": b"RIFF",
    "video": b"\0\0\0\x18ftypmp42" + bytes(99),
    "pickle": pickle.dumps(Payload()), "prefix alone": bytes(128) + b"DICM", "late prefix": bytes(129) + b"DICM" + bytes(99),
    "magic alone": PNG_HEAD, "JPEG magic": b"\xff\xd8\xff", "GIF magic": b"GIF89a", "BMP magic": b"BM", "TIFF magic": b"II*\0",
}  # fmt: skip


# PNG


def chunk(name: bytes, data: bytes, crc: int | None = None, length: int | None = None) -> bytes:
    check = zlib.crc32(name + data) if crc is None else crc
    return struct.pack(">I", len(data) if length is None else length) + name + data + struct.pack(">I", check)


def png(
    width: int, height: int, depth: int = 8, colour: int = 0, extra: bytes = b"", body: bytes | None = None, lace: int = 0
) -> bytes:
    rows = (
        zlib.compress(b"".join(b"\0" + bytes((i + k) % 251 for k in range(width)) for i in range(height)), 9)
        if body is None
        else body
    )
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, lace))
    return PNG_HEAD + head + extra + (chunk(b"IDAT", rows) if rows else b"") + chunk(b"IEND", b"")


def pngs() -> Iterator[tuple[str, bytes]]:
    bomb = zlib.compress(bytes(60 << 20), 9)
    for width, height in [(2**31 - 1, 2**31 - 1), (WORD, 8), (0, 9), (9, 0), (8, 2**31 - 1), (30_000, 30_000), (100_000, 1)]:
        yield f"{width} x {height}", png(width, height, body=b"x\x9c\1")
    for depth, colour in [(3, 0), (0, 0), (255, 2), (8, 7), (16, 3), (4, 2), (1, 6)]:
        yield f"depth {depth} colour {colour}", png(40, 40, depth, colour)
    yield "bomb behind small size", png(40, 40, body=bomb)
    yield "bomb in a profile", png(40, 40, extra=chunk(b"iCCP", b"p\0\0" + bomb))
    yield "bomb in a text", png(40, 40, extra=chunk(b"zTXt", b"t\0\0" + bomb) * 20)
    yield "bomb in an international text", png(40, 40, extra=chunk(b"iTXt", b"t\0\1\0\0\0" + bomb))
    yield "Adam7 of nothing", png(5000, 5000, body=zlib.compress(b""), lace=1)
    yield "no palette", png(40, 40, colour=3)
    yield "short palette", png(40, 40, colour=3, extra=chunk(b"PLTE", b"\1\2\3"))
    yield "palette of a part", png(40, 40, colour=3, extra=chunk(b"PLTE", bytes(769)))
    yield "transparency before palette", png(40, 40, colour=3, extra=chunk(b"tRNS", bytes(300)) + chunk(b"PLTE", bytes(9)))
    yield "no pixels", png(40, 40, body=b"")
    yield "pixels that are no zlib", png(40, 40, body=b"not compressed")
    yield "pixels without end", png(40, 40, body=zlib.compress(bytes(1640))[:-6])
    yield "many empty pixels", png(40, 40, extra=chunk(b"IDAT", b"") * 50_000)
    yield "wrong checksum", png(40, 40).replace(b"IDATx", b"IDATy")
    yield "no header", PNG_HEAD + chunk(b"IDAT", bytes(9)) + chunk(b"IEND", b"")
    yield "short header", PNG_HEAD + chunk(b"IHDR", b"\0\0\0\x28")
    yield "two headers", png(40, 40, extra=png(9000, 9000, body=b"")[8:33])
    yield "endless chunk", PNG_HEAD + chunk(b"IHDR", bytes(13), length=WORD)
    yield "chunk of half the world", png(40, 40, extra=chunk(b"abcd", b"", length=2**31 - 1))
    yield "name of no letters", png(40, 40, extra=chunk(b"\0\0\0\0", b"x"))
    yield "EXIF of noise", png(40, 40, extra=chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(range(99))))
    yield "four billion frames", png(40, 40, extra=chunk(b"acTL", struct.pack(">II", WORD, 0)))
    yield "frame outside", png(40, 40, extra=chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\xff" * 26))
    yield (
        "scale of nothing",
        png(40, 40, extra=chunk(b"pHYs", bytes(9)) + chunk(b"gAMA", bytes(4)) + chunk(b"cHRM", b"\xff" * 32)),
    )


# JPEG


def jpegs() -> Iterator[tuple[str, bytes]]:
    plain, steps = saved(PICTURE, "JPEG"), saved(PICTURE, "JPEG", progressive=True)
    sof = plain.index(b"\xff\xc0")
    for name, place, new in [
        ("65535 a side", 5, b"\xff\xff\xff\xff"), ("no height", 5, b"\0\0"), ("no width", 7, b"\0\0"),
        ("no components", 9, b"\0"),
        ("255 components", 9, b"\xff"), ("12 bits", 4, b"\x0c"), ("coarse sampling", 11, b"\xff"), ("no sampling", 11, b"\0"),
        ("table 9", 12, b"\x09"), ("frame of no length", 2, b"\0\0"), ("frame of one byte", 2, b"\0\1"),
        ("long frame", 2, b"\xff\xff"),
        ("lossless", 1, b"\xc3"), ("arithmetic", 1, b"\xc9"), ("hierarchical", 1, b"\xc5"), ("reserved", 1, b"\xc8"),
        ("higher", 5, b"\x0f\xff"),
    ]:  # fmt: skip
        yield name, plain[: sof + place] + new + plain[sof + place + len(new) :]
    for name, marker in [("no Huffman table", b"\xff\xc4"), ("no quantisation", b"\xff\xdb"), ("no scan", b"\xff\xda")]:
        yield name, plain.replace(marker, b"\xff\xfe")
    scan, table = steps.rindex(b"\xff\xda"), plain.index(b"\xff\xc4")
    wide = steps.replace(struct.pack(">HH", 44, 60), struct.pack(">HH", 6000, 6000))
    yield "two thousand scans", wide[:-2] + wide[scan:-2] * 2000 + b"\xff\xd9"
    yield "overfull table", plain[: table + 5] + b"\xff" * 16 + plain[table + 21 :]
    yield "markers without end", b"\xff\xd8" + b"\xff" * 200_000
    yield "comments without end", b"\xff\xd8" + b"\xff\xfe\xff\xff" + bytes(65533) * 3
    yield "scan first", b"\xff\xd8" + plain[plain.index(b"\xff\xda") :]
    yield "restart at every block", plain[:sof] + b"\xff\xdd\0\4\0\1" + plain[sof:]
    yield (
        "EXIF that bites its tail",
        exif(b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8)),
    )
    yield "EXIF of four billion", exif(b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x0112, 3, WORD, WORD) + bytes(4))
    yield (
        "pictures elsewhere",
        plain[:2] + b"\xff\xe2\0\x20MPF\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0xB002, 7, WORD, 8) + plain[2:],
    )
    yield "profile 255 of 1", plain[:2] + b"\xff\xe2\0\x14ICC_PROFILE\0\xff\1abcd" + plain[2:]
    yield "Adobe's fifth transform", plain[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\5" + plain[2:]


def exif(block: bytes) -> bytes:
    return saved(PICTURE, "JPEG", exif=b"Exif\0\0" + block)


# GIF, BMP, WEBP


def gifs() -> Iterator[tuple[str, bytes]]:
    def gif(
        screen: tuple[int, int] = (40, 40),
        box: tuple[int, ...] = (0, 0, 40, 40),
        size: int = 2,
        data: bytes = b"\2\x84\x51\0",
        extra: bytes = b"",
        flags: int = 0x80,
    ) -> bytes:
        head = b"GIF89a" + struct.pack("<HHBBB", *screen, flags, 0, 0) + (b"\0\0\0\xff\xff\xff" if flags else b"")
        return head + extra + b"," + struct.pack("<4HB", *box, 0) + bytes([size]) + data + b";"

    for size in (0, 1, 9, 11, 12, 13, 255):
        yield f"code size {size}", gif(size=size)
    yield "huge screen", gif((65535, 65535))
    yield "huge picture on a small screen", gif(box=(0, 0, 65535, 65535))
    yield "picture outside", gif(box=(65000, 65000, 40, 40))
    yield "picture of nothing", gif(box=(0, 0, 0, 0))
    yield "screen of nothing", gif((0, 0))
    yield "no colours", gif(flags=0)
    yield "no data", gif(data=b"")
    yield "empty blocks", gif(data=b"\0" * 100_000)
    yield "noise", gif(size=8, data=b"".join(b"\xff" + bytes((7 * i + k) % 256 for k in range(255)) for i in range(99)) + b"\0")
    yield "fifty thousand extensions", gif(extra=b"!\xf9\4\0\0\0\0\0" * 50_000)
    yield "comments without end", gif(extra=b"!\xfe" + (b"\xff" + b"x" * 255) * 4000)
    yield "unknown block", gif(extra=b"\x99" * 5000)
    yield "loop without count", gif(extra=b"!\xff\x0bNETSCAPE2.0\1\1\0")


def bmps() -> Iterator[tuple[str, bytes]]:
    def bmp(
        width: int = 40,
        height: int = 40,
        bits: int = 8,
        compression: int = 0,
        colours: int = 0,
        start: int = 1078,
        head: int = 40,
        body: bytes = bytes(1600),
    ) -> bytes:
        fields = struct.pack("<IiiHHIIiiII", head, width, height, 1, bits, compression, 0, 0, 0, colours, 0)
        return (
            b"BM"
            + struct.pack("<IHHI", 14 + len(fields) + 1024 + len(body), 0, 0, start)
            + fields
            + bytes(range(256)) * 4
            + body
        )

    for width, height in [
        (2**31 - 1, 2**31 - 1),
        (40, -(2**31)),
        (-40, 40),
        (0, 40),
        (40, 0),
        (2**31 - 1, 8),
        (20_000, 20_000),
    ]:
        yield f"{width} x {height}", bmp(width, height)
    for bits in (0, 2, 3, 7, 24, 31, 64, 65535):
        yield f"{bits} bits", bmp(bits=bits)
    for head in (0, 3, 12, 16, 39, 64, 124, WORD):
        yield f"header of {head}", bmp(head=head)
    yield "colours without end", bmp(colours=WORD)
    yield "pixels before the header", bmp(start=2)
    yield "pixels behind the end", bmp(start=WORD)
    yield "masks of nothing", bmp(bits=32, compression=3)
    yield "unknown compression", bmp(compression=99)
    yield "run over the edge", bmp(compression=1, body=b"\xff\1" * 3000)
    yield "jump over the edge", bmp(compression=1, body=b"\0\2\xff\xff" * 3000 + b"\0\1")
    yield "half bytes", bmp(bits=4, compression=2, body=b"\0\xff" + bytes(20))
    yield "JPEG within", bmp(bits=0, compression=4, body=saved(PICTURE, "JPEG"))


def webps() -> Iterator[tuple[str, bytes]]:
    def riff(body: bytes, length: int | None = None) -> bytes:
        return b"RIFF" + struct.pack("<I", 4 + len(body) if length is None else length) + b"WEBP" + body

    def part(name: bytes, data: bytes, length: int | None = None) -> bytes:
        return name + struct.pack("<I", len(data) if length is None else length) + data + bytes(len(data) % 2)

    plain, lossless = saved(PICTURE, "WEBP")[12:], saved(PICTURE, "WEBP", lossless=True)[12:]
    canvas = part(b"VP8X", b"\2\0\0\0" + b"\xff\x3f\0" * 2)
    frame = part(b"ANMF", bytes(6) + b"\x3b\0\0\x2b\0\0" + bytes(4) + lossless)
    for length in (0, 5, 2**31, WORD):
        yield f"length {length}", riff(plain, length)
    yield "nothing within", riff(b"")
    yield "picture of nothing", riff(part(b"VP8 ", b"\x10\0\0\x9d\1\x2a" + bytes(4) + bytes(20)))
    yield "16383 a side", riff(part(b"VP8 ", b"\x10\0\0\x9d\1\x2a\xff\x3f\xff\x3f" + bytes(20)))
    yield "16384 a side, lossless", riff(part(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(20)))
    yield "canvas larger than picture", riff(canvas + plain)
    yield "canvas alone", riff(canvas)
    yield "canvas of 16 million", riff(part(b"VP8X", b"\0\0\0\0" + b"\xff" * 6) + plain)
    yield "film of a thousand on a huge canvas", riff(canvas + part(b"ANIM", bytes(6)) + frame * 1000)
    yield "frame outside", riff(canvas + part(b"ANIM", bytes(6)) + part(b"ANMF", b"\xff" * 16 + lossless))
    yield "alpha of noise", riff(part(b"VP8X", b"\x10\0\0\0\x3b\0\0\x2b\0\0") + part(b"ALPH", b"\1" + b"\xaa" * 50) + plain)
    yield "part without end", riff(part(b"VP8L", b"\x2f", WORD))
    yield "noise, lossless", riff(part(b"VP8L", lossless[8:13] + b"\xa5\x5a\xff" * 300))
    yield "profile of noise", riff(part(b"VP8X", b"\x20\0\0\0\x3b\0\0\x2b\0\0") + part(b"ICCP", b"\xff" * 9999) + plain)


# TIFF


def tiff(body: bytes = bytes(1600), next_ifd: int = 0, entries: int | None = None, **tags: Any) -> bytes:
    """40 x 40 pixels of 8 bits, little-endian; a tag is given as `t256=value` or `t256=(type, count, value or offset)`."""
    fields: dict[str, Any] = {"t256": 40, "t257": 40, "t258": 8, "t259": 1, "t262": 1, "t273": 8, "t277": 1, "t278": 40}
    fields |= {"t279": len(body)} | tags
    rows = [
        (int(name[1:]), *(value if isinstance(value, tuple) else (4, 1, value)))
        for name, value in fields.items()
        if value is not None
    ]
    table = b"".join(struct.pack("<HHII", *row) for row in sorted(rows))
    head = b"II*\0" + struct.pack("<I", 8 + len(body)) + body
    return head + struct.pack("<H", len(rows) if entries is None else entries) + table + struct.pack("<I", next_ifd)


def tiffs() -> Iterator[tuple[str, bytes]]:
    for name, tags in {
        "half the world": {"t256": 2**31 - 1, "t257": 2**31 - 1}, "four billion wide": {"t256": WORD}, "no width": {"t256": 0},
        "no height": {"t257": 0}, "a thread": {"t256": 1_000_000, "t257": 1}, "no bits": {"t258": 0},
        "65535 bits": {"t258": 65535},
        "bits without end": {"t258": (3, WORD, 8)}, "unknown compression": {"t259": 65000}, "strips elsewhere": {"t273": WORD},
        "strips without end": {"t273": (4, WORD, 8)}, "no strips": {"t273": None}, "no samples": {"t277": 0},
        "65535 samples": {"t277": 65535},
        "no rows": {"t278": 0}, "rows without end": {"t278": WORD}, "short strips": {"t279": 1}, "long strips": {"t279": WORD},
        "palette that is not there": {"t262": 3}, "unknown colours": {"t262": 999}, "CFA": {"t262": 32803},
        "orientation 9": {"t274": 9},
        "two planes": {"t284": 2, "t277": 3}, "predictor 9": {"t317": 9, "t259": 5},
        "huge tiles": {"t322": 2**30, "t323": 2**30, "t324": 8, "t325": 16},
        "tiles of nothing": {"t322": 0, "t323": 0, "t324": 8, "t325": 16}, "floats of 8 bits": {"t339": 3},
        "complex": {"t339": 6, "t258": 64},
        "unknown type": {"t700": (99, 9, 9)}, "texts without end": {"t270": (2, WORD, 8)},
        "fractions of nothing": {"t282": (5, 1, 8)},
        "directory in itself": {"t34665": 1608}, "children without end": {"t330": (4, WORD, 8)},
    }.items():  # fmt: skip
        yield name, tiff(**tags)  # type: ignore[arg-type]
    for name, compression in {
        "fax 3": 3, "fax 4": 4, "LZW": 5, "old JPEG": 6, "JPEG": 7, "deflate": 8, "PackBits": 32773, "LZMA": 34925,
        "ZSTD": 50000, "WEBP": 50001,
    }.items():  # fmt: skip
        yield f"{name} of noise", tiff(bytes((11 * i) % 256 for i in range(1600)), t259=compression)
        yield f"{name} of a huge picture", tiff(bytes(99), t259=compression, t256=60_000, t257=60_000)
    yield "deflate bomb", tiff(zlib.compress(bytes(60 << 20), 9), t259=8)
    yield "deflate bomb of its size", tiff(zlib.compress(bytes(16_000_000), 9), t259=8, t256=4000, t257=4000, t278=4000)
    yield "fax of white lines", tiff(bytes(100_000), t259=4, t256=10_000, t257=10_000, t258=1, t278=10_000)
    yield "rows that are nowhere", tiff(t257=2_000_000)
    yield "directory after itself", tiff(next_ifd=1608)
    yield "65535 entries", tiff(entries=65535)
    yield "no entries", tiff(entries=0)
    yield "directory behind the end", b"II*\0" + struct.pack("<I", WORD)
    yield "directory in the header", b"II*\0" + struct.pack("<I", 2) + bytes(99)
    yield "big, and beyond everything", b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63)
    yield "big, of 2^60 entries", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60) + bytes(99)
    yield "other order than it says", b"MM\0*" + tiff()[4:]
    yield "all that is no number", saved(Image.fromarray(np.full((40, 40), np.nan, np.float32)), "TIFF")
    yield "infinite values", saved(Image.fromarray(np.where(X > 0.5, np.inf, -np.inf).astype(np.float32)), "TIFF")


# DICOM


def dicom(values: np.ndarray[Any, Any] | None = None, syntax: str = EXPLICIT, frame: bytes | None = None, **tags: Any) -> bytes:
    """A film of 40 x 60 pixels of 16 bits, with these tags instead of its own; `frame` is its compressed frame."""
    values = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) if values is None else values
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = UID(
        syntax if frame is not None or syntax in (NATIVE, EXPLICIT, BIG, DEFLATED) else EXPLICIT
    )
    header.file_meta.MediaStorageSOPClassUID, header.file_meta.MediaStorageSOPInstanceUID = (
        UID("1.2.840.10008.5.1.4.1.1.7"),
        UID("1.2.3"),
    )
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.NumberOfFrames, (header.Rows, header.Columns) = "1", values.shape
    header.BitsAllocated = header.BitsStored = 8 * values.itemsize
    header.HighBit, header.PixelRepresentation = 8 * values.itemsize - 1, 0
    header.PixelData = (
        values.astype(values.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()
        if frame is None
        else encapsulate([frame])
    )
    header["PixelData"].VR = "OW" if frame is None else "OB"
    if header.file_meta.TransferSyntaxUID != syntax:
        header.compress(UID(syntax), generate_instance_uid=False)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom knows better
        for name, value in tags.items():
            setattr(header, name, value)
        header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value) if length is None else length) + value


def with_meta(body: bytes, syntax: str = EXPLICIT) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid + body


def dicoms() -> Iterator[tuple[str, bytes]]:
    for name, tags in {
        "65535 a side": {"Rows": 65535, "Columns": 65535}, "no rows": {"Rows": 0},
        "frames without end": {"NumberOfFrames": "2147483647"},
        "frames below nothing": {"NumberOfFrames": "-5"}, "12 bits": {"BitsAllocated": 12}, "no bits": {"BitsStored": 0},
        "17 of 16 bits": {"BitsStored": 17},
        "high bit 255": {"HighBit": 255}, "4 samples": {"SamplesPerPixel": 4}, "255 samples": {"SamplesPerPixel": 255},
        "third sign": {"PixelRepresentation": 3},
        "HSV": {"PhotometricInterpretation": "HSV"}, "no palette": {"PhotometricInterpretation": "PALETTE COLOR"},
        "sizes as list": {"Rows": [40, 60]},
        "window of nothing": {"WindowCenter": 40, "WindowWidth": 0},
        "window below nothing": {"WindowCenter": 40, "WindowWidth": -400},
        "window beyond numbers": {"WindowCenter": "1e308", "WindowWidth": "1e308"},
        "slope beyond numbers": {"RescaleSlope": "1e308"},
        "slope of nothing": {"RescaleSlope": 0}, "spacing below nothing": {"PixelSpacing": [-1, 0]},
        "name in a term": {"Modality": "HONG^GIL"},
    }.items():  # fmt: skip
        yield name, dicom(**tags)  # type: ignore[arg-type]
    for name, descriptor, data in [
        ("empty table", [0, 0, 16], b""),
        ("short table", [0, 0, 16], bytes(9)),
        ("255 bits", [9, 0, 255], bytes(18)),
    ]:
        table = Dataset()
        table.LUTDescriptor, table.LUTData = descriptor, data
        table["LUTDescriptor"].VR = "US"
        yield name, dicom(VOILUTSequence=[table])
    for name, start in {
        "PE": b"MZ\x90\0",
        "ELF": b"\x7fELF",
        "GIF": b"GIF89a",
        "PNG": PNG_HEAD,
        "zip": b"PK\3\4",
        "late PDF": bytes(50) + b"%PDF-1.4",
    }.items():
        yield f"{name} before the prefix", start.ljust(128, b"\0") + dicom()[128:]
    item, nest = struct.pack("<HHI", 0xFFFE, 0xE000, 0), struct.pack("<HHI", 0xFFFE, 0xE000, WORD)
    pixels = element(0x7FE00010, b"OW", b"", 0x40000000)
    film = dicom()[dicom().index(b"\x28\0\x02\0") :]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    swollen = packer.compress(pixels) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    yield "a million items", with_meta(element(0x00081140, b"SQ", item * 300_000, WORD))
    yield "nested without end", with_meta((element(0x00081140, b"SQ", b"", WORD) + nest) * 50_000)
    yield "a million elements", with_meta(struct.pack("<HH2sH", 8, 0x60, b"CS", 0) * 500_000)
    yield "numbers without end", with_meta(struct.pack("<HHI", 0x28, 0x1050, 2_000_000) + b"1\\" * 1_000_000 + film, NATIVE)
    yield "swollen pixels", with_meta(swollen, DEFLATED)
    yield "deflate of noise", with_meta(b"\xff" * 5000, DEFLATED)
    yield "pixels of half the world", with_meta(film[: -4800 - 12] + pixels)
    yield "native pixels without end", with_meta(film[: -4800 - 12] + element(0x7FE00010, b"OW", bytes(4800), WORD))
    yield "no pixels", with_meta(film[: -4800 - 12])
    yield "unknown value type", with_meta(struct.pack("<HH2sHI", 8, 0x60, b"ZZ", 0, WORD) + film)
    yield "endless name of a syntax", with_meta(film, "1." * 5000 + "1")
    yield "video", dicom(frame=b"\0\0\1\xb3" + bytes(99), syntax=f"{NATIVE}.4.100")
    yield "a directory", dicom().replace(b"1.2.840.10008.5.1.4.1.1.7\0", b"1.2.840.10008.1.3.10\0\0\0\0\0\0")


def frames() -> Iterator[tuple[str, bytes]]:
    """DICOM whose compressed frame is not what its tags say."""
    grey = np.indices((40, 60)).sum(0).astype(np.uint8)
    jpeg = saved(Image.fromarray(grey), "JPEG")
    wide = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)
    for name, segments in [("no segments", 0), ("16 segments", 16), ("segments without end", WORD)]:
        yield f"RLE, {name}", dicom(grey, RLE, struct.pack("<16I", segments, *[64] * 15) + bytes(40))
    yield "RLE, segments elsewhere", dicom(grey, RLE, struct.pack("<16I", 1, WORD, *[0] * 14) + bytes(40))
    yield (
        "RLE, 888 bytes for 32 GiB",
        dicom(grey, RLE, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 412, Rows=65535, Columns=65535),
    )
    yield "RLE, too few", dicom(grey, RLE, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0")
    yield "RLE, too many", dicom(grey, RLE, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 50_000)
    for syntax in (RLE, JPEG, JPEG_LS, JPEG_2000):
        for name, frame in [
            ("two zeros", bytes(2)),
            ("noise", bytes((13 * i) % 256 for i in range(2000))),
            ("a JPEG", jpeg),
            ("half a JPEG", jpeg[:200]),
            ("a PNG", png(60, 40)),
        ]:
            yield f"{syntax[20:]}, {name}", dicom(grey, syntax, frame)
    for syntax in (RLE, JPEG_LS, JPEG_2000):
        yield f"{syntax[20:]}, other size", dicom(wide, syntax, None, Rows=60, Columns=40)
        yield f"{syntax[20:]}, other bits", dicom(wide, syntax, None, BitsAllocated=8, BitsStored=8, HighBit=7)
        yield (
            f"{syntax[20:]}, other colours",
            dicom(wide, syntax, None, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
        )
        yield f"{syntax[20:]}, frames without end", dicom(wide, syntax, None, NumberOfFrames="2000000000")
    packed = dicom(wide, JPEG_2000)
    start = packed.index(b"\xff\x4f\xff\x51")
    yield "JPEG 2000, 60000 a side", packed[: start + 8] + struct.pack(">II", 60_000, 60_000) + packed[start + 16 :]
    yield "JPEG 2000, tiles of one pixel", packed[: start + 24] + struct.pack(">II", 1, 1) + packed[start + 32 :]
    yield "JPEG 2000, 16384 components", packed[: start + 40] + b"\x40\0" + packed[start + 42 :]
    yield "fragment without end", packed[: start - 4] + struct.pack("<I", WORD) + packed[start:]
    yield "offsets of noise", packed[: start - 12] + b"\xff" * 4 + packed[start - 8 :]


# Good files, and what becomes of them on the way


def good_files() -> dict[str, bytes]:
    """One small whole file of each kind that is read."""
    grey, wide = PICTURE.convert("L"), np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)
    files = {name: saved(PICTURE, name) for name in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "MPO")}
    files |= {"progressive": saved(PICTURE, "JPEG", progressive=True), "lossless": saved(PICTURE, "WEBP", lossless=True)}
    files |= {
        f"TIFF {name}": saved(PICTURE, "TIFF", compression=name)
        for name in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")
    }
    files |= {"fax": saved(grey.convert("1"), "TIFF", compression="group4"), "16 bits": saved(Image.fromarray(wide), "PNG")}
    files |= {"palette": saved(PICTURE.convert("P"), "PNG"), "alpha": saved(PICTURE.convert("RGBA"), "PNG")}
    files |= {
        f"DICOM {syntax[18:]}": dicom(wide, syntax) for syntax in (NATIVE, EXPLICIT, BIG, DEFLATED, RLE, JPEG_LS, JPEG_2000)
    }
    return files | {"DICOM JPEG": dicom(np.asarray(grey), JPEG, saved(grey, "JPEG"), Rows=44, Columns=60)}


def damaged() -> Iterator[tuple[str, bytes]]:
    for name, data in good_files().items():
        for share in (0.2, 0.6, 0.95):
            yield f"{name} cut at {share:.0%}", data[: int(share * len(data))]
        yield f"{name}, the end turned over", data[: len(data) // 2] + bytes(255 - byte for byte in data[len(data) // 2 :])
