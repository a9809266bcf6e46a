"""Any bytes become an upright 8-bit RGB picture, or one sentence."""

import io
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vision.study import Study, StudyError, read_study, read_trusted
from vision.tiling import Box

BAD_INPUTS = Path(__file__).parents[2] / "shared" / "data" / "bad_inputs" / "pillow"
FILES = sorted(BAD_INPUTS.glob("*"))
LOSSLESS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})]
FORMATS = [
    *LOSSLESS,
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("GIF", {}),
    ("TIFF", {"compression": "jpeg"}),
    ("WEBP", {}),
]


def saved(image: Image.Image, name: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth, with four unlike corners, so that a wrong turn or a grey half shows."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray(np.rint(255 * np.stack([x, y, 1 - x * y], axis=-1)).astype(np.uint8))


def grey(values: ArrayLike) -> np.ndarray:
    """What read_study makes of a TIFF of these values: one channel of its three equal ones."""
    return pixels(read_study(saved(Image.fromarray(np.asarray(values)), "TIFF")))[..., 0]


def pixels(study: Study) -> np.ndarray:
    assert type(study.image) is Image.Image and study.image.mode == "RGB"
    return np.asarray(study.image, int)


def refused(data: bytes, **limits: int) -> StudyError:
    with pytest.raises(StudyError) as caught:
        read_study(data, **limits)
    message = str(caught.value)
    assert message[0].isupper() and message.endswith(".") and "\n" not in message
    return caught.value


def png(width: int, height: int, body: bytes, depth: int = 8, colour: int = 0) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


# What is read


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_each_format_gives_the_picture(name: str, options: dict[str, object]) -> None:
    study = read_study(saved(picture(), name, **options))
    difference = np.abs(pixels(study) - np.asarray(picture(), int))
    assert study.box == Box(0, 0, 48, 32) and study.window is None
    assert difference.max() == 0 if (name, options) in LOSSLESS else difference.mean() < 6


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_of_several_pictures_is_read(name: str) -> None:
    first, second = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    data = saved(first, name, save_all=True, append_images=[second])
    assert np.abs(pixels(read_study(data)) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_the_picture_stands_upright(name: str, orientation: int) -> None:
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"} | {
        6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name == "WEBP" else {"quality": 100, "subsampling": 0} if name == "JPEG" else {}
    expected = picture()
    if orientation in turns:
        expected = expected.transpose(Image.Transpose[turns[orientation]])
    actual = pixels(read_study(saved(picture(), name, exif=exif, **options)))
    assert actual.shape == np.asarray(expected).shape
    assert np.abs(actual - np.asarray(expected, int)).max() <= (4 if name == "JPEG" else 0)


def test_a_damaged_exif_does_not_cost_the_picture() -> None:
    data = saved(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(40)))
    assert read_study(data).image.size == (48, 32)


@pytest.mark.parametrize("name", ["PNG", "TIFF", "WEBP", "JPEG", "GIF", "MPO"])
def test_no_metadata_is_kept(name: str) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = "Hong Gildong", "Hong Gildong"
    note = PngInfo()
    note.add_text("Patient", "Hong Gildong")
    data = saved(picture(), name, exif=exif, comment=b"Hong Gildong", pnginfo=note, dpi=(300, 300), icc_profile=b"Hong Gildong")
    study = read_study(data)
    assert name == "GIF" or b"Hong Gildong" in data
    assert study.image.info == {} and not study.image.getexif()
    assert "Hong" not in repr(study) + repr(vars(study.image))


# More than eight bits


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
def test_sixteen_bits_are_windowed_and_not_saturated(name: str) -> None:
    ramp = np.linspace(1000, 5000, 256, dtype=np.uint16).repeat(16).reshape(64, 64)
    study = read_study(saved(Image.fromarray(ramp), name))
    assert study.window == (3000.5, 4001)
    assert len(np.unique(pixels(study))) == 256
    assert (np.diff(pixels(study)[..., 0].ravel()) >= 0).all()


@pytest.mark.parametrize("values", [">u2", "<u2", "<i2", "<i4", "<f4", ">f4"])
def test_every_wide_number_gives_the_same_grey(values: str) -> None:
    ramp = np.linspace(0, 30_000, 2_500).reshape(50, 50).astype(values)
    kind = {"u": 1, "i": 2, "f": 3}[ramp.dtype.kind]
    actual = pixels(read_study(tiff(ramp.tobytes(), 50, 50, 8 * ramp.itemsize, kind, big_endian=values[0] == ">")))
    assert np.abs(actual[..., 0] - np.linspace(0, 255, 2_500).reshape(50, 50)).max() <= 1


@pytest.mark.parametrize("values", ["<u2", "<f4"])
def test_white_is_zero_is_turned_over(values: str) -> None:
    ramp = np.linspace(0, 30_000, 2_500).reshape(50, 50).astype(values)
    kind = 3 if values == "<f4" else 1
    data = tiff(ramp.tobytes(), 50, 50, 8 * ramp.itemsize, kind, photometric=0)
    assert pixels(read_study(data))[0, 0, 0] == 255 and pixels(read_study(data))[-1, -1, 0] == 0


def tiff(
    body: bytes, width: int, height: int, bits: int, sample_format: int, photometric: int = 1, big_endian: bool = False
) -> bytes:
    order = ">" if big_endian else "<"
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8 + 2 + 10 * 12 + 4, 277: 1, 278: height}
    tags |= {279: len(body), 339: sample_format}
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    start = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "IH", 8, len(tags))
    return start + entries + bytes(4) + body


@given(
    st.lists(st.floats(width=32), min_size=64, max_size=64),
    st.sampled_from([np.float32, np.int32, np.uint16]),
)
def test_any_values_give_grey_in_their_own_order(numbers: list[float], kind: type[np.generic]) -> None:
    with np.errstate(all="ignore"):
        values = np.array(numbers, np.float32).reshape(8, 8)
        values = values if kind is np.float32 else np.nan_to_num(np.clip(values, 0, 60_000)).astype(kind)
    result = grey(values)
    finite = np.isfinite(values)
    order = np.argsort(values[finite], kind="stable")
    assert (np.diff(result[finite][order]) >= 0).all()
    if len(np.unique(values[finite])) > 1:
        assert result.min() == 0 and result.max() == 255
    else:
        assert (result == 128).all()


def test_what_is_not_a_number_is_black() -> None:
    values = np.linspace(5, 9, 100, dtype=np.float32).reshape(10, 10)
    values[3, 3], values[4, 4], values[5, 5] = np.nan, np.inf, -np.inf
    result = grey(values)
    assert result[3, 3] == result[4, 4] == result[5, 5] == 0
    assert result[0, 0] == 0 and result[9, 9] == 255


def test_a_hot_pixel_does_not_darken_the_rest() -> None:
    values = np.linspace(0, 4_000, 10_000).reshape(100, 100).astype(np.uint16)
    values[50, 50] = 65_535
    result = grey(values)
    assert len(np.unique(result)) > 200 and result[50, 50] == 255
    assert result[99, 99] == 255 and result[0, 0] == 0


def test_a_few_marks_on_an_even_ground_stay() -> None:
    values = np.zeros((200, 200), np.uint16)
    values[100, 100:103] = 700, 800, 900
    assert list(grey(values)[100, 99:104]) == [0, 198, 227, 255, 0]


# Colours


@pytest.mark.parametrize(
    ("name", "mode"), [("JPEG", "CMYK"), ("TIFF", "CMYK"), ("TIFF", "LAB"), ("TIFF", "YCbCr"), ("JPEG", "YCbCr")]
)
def test_other_colour_spaces_become_rgb(name: str, mode: str) -> None:
    red = Image.new("RGB", (32, 32), (200, 60, 40))
    source = Image.new("LAB", red.size, (119, 182, 168)) if mode == "LAB" else red.convert(mode)  # L 47, a 54, b 40
    data = saved(source, name, **({"compression": "jpeg"} if (name, mode) == ("TIFF", "YCbCr") else {}))
    assert np.abs(pixels(read_study(data)) - (200, 60, 40)).max() <= 12


@pytest.mark.parametrize("name", ["PNG", "TIFF", "GIF", "BMP"])
def test_one_bit_becomes_black_and_white(name: str) -> None:
    source = np.indices((16, 16)).sum(0) % 2 == 0
    assert np.array_equal(pixels(read_study(saved(Image.fromarray(source), name)))[..., 1], source * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (90, 255), (255, 0)])
def test_a_drawing_with_alpha_stays_visible(mode: str, ink: int, paper: int) -> None:
    drawing = Image.new("LA", (32, 32), (ink, 0))
    drawing.paste((ink, 255), (8, 8, 16, 16))
    if mode == "P":
        palette = Image.fromarray(np.asarray(drawing)[..., 1] // 255)
        palette.putpalette([ink] * 6)
        data = saved(palette, "PNG", transparency=0)
    else:
        source = drawing.convert(mode)
        source.putalpha(drawing.getchannel("A"))
        data = saved(source, "TIFF" if mode == "PA" else "PNG")
    actual = pixels(read_study(data))
    assert (actual[8:16, 8:16] == ink).all() and (actual[0] == paper).all()


def test_half_an_alpha_is_half_the_ink() -> None:
    actual = pixels(read_study(saved(Image.new("RGBA", (8, 8), (0, 0, 200, 128)), "PNG")))
    assert np.abs(actual - (127, 127, 227)).max() <= 1


def test_an_alpha_that_hides_everything_is_not_meant() -> None:
    source = picture().convert("RGBA")
    source.putalpha(0)
    assert np.array_equal(pixels(read_study(saved(source, "PNG"))), np.asarray(picture()))


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_transparent_colour_is_paper(mode: str) -> None:
    source = Image.new(mode, (16, 16), "black")
    source.paste("white", (0, 0, 8, 16))
    data = saved(source, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert pixels(read_study(data))[0, :, 0].tolist() == [255] * 8 + [0] * 8  # white ink, so black paper


def test_sixteen_bit_colour_is_read() -> None:
    rows = (b"\0" + struct.pack(">HHH", 65_535, 32_768, 0) * 10) * 10
    actual = pixels(read_study(png(10, 10, zlib.compress(rows), depth=16, colour=2)))
    assert np.abs(actual - (255, 128, 0)).max() <= 1


# What is refused


def test_an_empty_file_is_named() -> None:
    assert refused(b"").reason == "empty"


@pytest.mark.parametrize(
    "data", [b"Dear doctor,\n", b"\x00", bytes(5000), b"<html><svg></svg></html>", b"PK\x03\x04", b"RIFF\0\0\0\0WAVE"]
)
def test_what_is_no_image_is_named_with_what_is(data: bytes) -> None:
    error = refused(data)
    assert error.reason == "unknown_format" and "JPEG" in str(error.fields["formats"])


SVG = '<?xml version="1.0"?>\n<!-- a drawing -->\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
CONVERTIBLE = [
    ("SVG", SVG.encode()),
    ("SVG", b"\xef\xbb\xbf  <SVG width='9'>"),
    ("SVG", SVG.encode("utf-16")),
    ("PDF", b"%PDF-1.7\n%\xe2\xe3"),
    ("PDF", b"\n\n%PDF-1.4"),
    ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    ("AVIF", b"\0\0\0\x1cftypavif\0\0\0\0"),
    ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
    ("PSD", b"8BPS\0\x01"),
    ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0"),
]


@pytest.mark.parametrize(("name", "data"), CONVERTIBLE)
def test_what_can_be_converted_is_named(name: str, data: bytes) -> None:
    error = refused(data)
    assert (error.reason, error.fields["format"]) == ("convert_first", name)
    assert "Convert" in str(error) and "PNG" in str(error)


@pytest.mark.parametrize("start", [bytes(128), b"II*\0" + bytes(124)])
def test_dicom_is_known_whatever_its_preamble_says(start: bytes) -> None:
    assert refused(start + b"DICM\x02\0\0\0UL").reason == "dicom_no_image"


@pytest.mark.parametrize("data", [b"\x08\0\x05\0CS\x0a\0ISO_IR 192", b"\0\x08\0\x05CS\0\x0aISO_IR 192"])
def test_dicom_without_a_preamble_is_known(data: bytes) -> None:
    assert refused(data).reason == "dicom_no_image"


@pytest.mark.parametrize(("name", "options"), FORMATS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_a_truncated_file_is_refused(name: str, options: dict[str, object], share: float) -> None:
    data = saved(picture(200, 150), name, **options)
    error = refused(data[: int(share * len(data))])
    assert (error.reason, error.fields) == ("broken", {"format": name})


@pytest.mark.parametrize("size", [(0, 0), (0, 100), (100, 0)])
def test_an_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    assert refused(png(*size, zlib.compress(b""))).reason == "broken"


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000), (1, 1), (7, 300)])
def test_a_thread_of_pixels_is_refused_with_its_size(size: tuple[int, int]) -> None:
    error = refused(saved(Image.new("L", size), "PNG"))
    assert error.reason == "too_small" and error.fields == {"width": size[0], "height": size[1], "minimum": 8}


def test_eight_by_eight_pixels_are_enough() -> None:
    assert read_study(saved(Image.new("L", (8, 8)), "PNG")).image.size == (8, 8)


@pytest.mark.parametrize("cut", [None, 60])
def test_a_bomb_is_refused_by_its_header_alone(cut: int | None) -> None:
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(3751 * 1000)) for _ in range(30)) + packer.flush()
    data = png(30_000, 30_000, body, depth=1)
    assert len(data) < 1_000_000
    error = refused(data[:cut])  # nothing behind the header is needed to say no
    assert error.reason == "too_many_pixels"
    assert error.fields == {"width": 30_000, "height": 30_000, "limit": 200_000_000}
    assert "30,000 x 30,000" in str(error) and "200,000,000" in str(error)


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_the_limit_is_ours_and_counts_to_the_pixel(
    name: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own would refuse everything
    data = saved(picture(), name, **options)
    assert read_study(data, max_pixels=48 * 32).image.size == (48, 32)
    assert refused(data, max_pixels=48 * 32 - 1).fields["limit"] == 48 * 32 - 1
    assert Image.MAX_IMAGE_PIXELS == 10


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(StudyError) as caught:
        read_trusted(saved(picture(), "BMP"))
    error = caught.value
    assert (error.reason, error.fields) == ("not_enough_memory", {"format": "BMP"})


# Whatever comes


@given(st.sampled_from(FORMATS), st.data())
def test_a_damaged_file_gives_a_study_or_a_sentence(kind: tuple[str, dict[str, object]], data: st.DataObject) -> None:
    file = bytearray(saved(picture(), kind[0], **kind[1]))
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(file))


@given(
    st.sampled_from([b"", b"BM", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF\xff\0\0\0WEBP"]),
    st.binary(),
)
def test_noise_gives_a_sentence(magic: bytes, noise: bytes) -> None:
    check(magic + noise)


@pytest.mark.parametrize(
    "path", FILES or [pytest.param(None, marks=pytest.mark.skip(f"No {BAD_INPUTS}"))], ids=lambda p: getattr(p, "name", p)
)
def test_files_that_broke_decoders_give_a_study_or_a_sentence(path: Path) -> None:
    started = time.process_time()
    check(path.read_bytes())
    assert time.process_time() - started < 10


def check(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = outcome(data)
    if isinstance(result, Study):
        assert pixels(result).ndim == 3 and result.image.info == {}
        assert min(result.image.size) >= 8
    else:
        assert str(result).endswith(".")


def outcome(data: bytes) -> Study | StudyError:
    try:
        return read_study(data, max_pixels=4_000_000)
    except StudyError as error:
        return error


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=read_trusted, args=(saved(picture(), name),)) for name in ("PNG", "JPEG", "TIFF") * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
