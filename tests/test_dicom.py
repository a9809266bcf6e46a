"""A DICOM file becomes the picture that its header means, without its identity, or one sentence."""

import io
import logging
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_voi, apply_windowing
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from chat.ui.words import explain
from chat.wording import LANGUAGES
from vision.codestream import Declared, declared
from vision.study import Study, StudyError, read_study

OWN = Path(pydicom.data.__file__).parent / "test_files"
SHARED = Path(__file__).parents[2] / "shared" / "data"
IMPLICIT, EXPLICIT, BIG, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
NATIVE = [IMPLICIT, EXPLICIT, BIG, DEFLATED]
NAME = "HONG^GILDONG"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="No shared/data folder beside the project.")


def film(values: np.ndarray | None = None, syntax: str = EXPLICIT, **tags: Any) -> Dataset:
    """A secondary capture of these values: (rows, columns), (frames, rows, columns) or (rows, columns, 3)."""
    if values is None:
        values = np.arange(48 * 32, dtype=np.uint16).reshape(32, 48)
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = UID(syntax)
    header.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    header.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    is_colour = values.ndim == 3 and values.shape[-1] == 3
    header.NumberOfFrames = len(values) if values.ndim == 3 and not is_colour else 1
    header.Rows, header.Columns = values.shape[:2] if is_colour else values.shape[-2:]
    header.SamplesPerPixel, header.PhotometricInterpretation = (3, "RGB") if is_colour else (1, "MONOCHROME2")
    if is_colour:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = 8 * values.itemsize
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, int(values.dtype.kind == "i")
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    header.PixelData = values.astype(values.dtype.newbyteorder(">" if syntax == BIG else "<")).tobytes()
    header["PixelData"].VR = "OW" if values.itemsize > 1 else "OB"
    return header


def saved(header: Dataset) -> bytes:
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def grey(study: Study) -> np.ndarray:
    assert study.image.mode == "RGB" and study.image.info == {}
    channels = np.asarray(study.image, int)
    assert (channels == channels[..., :1]).all()
    return channels[..., 0]


def refused(data: bytes) -> StudyError:
    with pytest.raises(StudyError) as caught:
        read_study(data, max_pixels=40_000_000)
    assert str(caught.value)[0].isupper() and str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert all("{" not in sentence for sentence in sentences(caught.value))
    return caught.value


def sentences(error: StudyError) -> list[str]:
    return [explain(error, language) for language in LANGUAGES]


def outcome(data: bytes) -> Study | StudyError:
    try:
        return read_study(data, max_pixels=4_000_000)
    except StudyError as error:
        return error


# Values and windows


WINDOWS = [
    ("LINEAR", 600.5, 1000),
    ("LINEAR", 40, 1),
    ("LINEAR_EXACT", 700, 0.5),
    ("LINEAR_EXACT", 0, 300),
    ("SIGMOID", 800, 400),
]


@pytest.mark.parametrize(("function", "center", "width"), WINDOWS)
@pytest.mark.parametrize("intercept", [0, -1024])
def test_the_header_window_is_the_standards(function: str, center: float, width: float, intercept: float) -> None:
    center += intercept
    header = film(WindowCenter=center, WindowWidth=width, VOILUTFunction=function, RescaleSlope=1, RescaleIntercept=intercept)
    values = header.pixel_array + float(intercept)
    study = read_study(saved(header))
    reference = apply_windowing(values, header)
    low, high = intercept, 65535 + intercept
    assert study.window == (center, width)
    assert np.abs(grey(study) - 255 * (reference - low) / (high - low)).max() <= 0.51


@given(center=st.floats(-2000, 70_000), width=st.floats(1, 70_000), inverted=st.booleans())
def test_any_window_is_the_standards_linear_function(center: float, width: float, inverted: bool) -> None:
    values = np.linspace(0, 65_535, 32 * 48).astype(np.uint16).reshape(32, 48)
    study = read_study(saved(film(values, PixelSpacing=[0.2, 0.1], Modality="CR", ViewPosition="PA", ImageLaterality="L")))
    windowed = study.windowed(center, width, inverted)
    x = values.astype(float)
    with np.errstate(all="ignore"):
        share = (x - (center - 0.5)) / (width - 1) + 0.5
    share = np.where(x <= center - 0.5 - (width - 1) / 2, 0, np.where(x > center - 0.5 + (width - 1) / 2, 1, share))
    assert np.abs(grey(windowed) - 255 * (1 - share if inverted else share)).max() <= 0.51
    kept = ("raw", "spacing", "spacing_from", "modality", "view", "laterality", "frames")
    assert [getattr(windowed, name) for name in kept] == [getattr(study, name) for name in kept]
    assert (windowed.window, windowed.is_inverted) == ((center, width), inverted)


@pytest.mark.parametrize("window", [(0, 0), (0, 0.5), (0, -5), (float("nan"), 9), (0, float("inf"))])
def test_a_window_that_shows_nothing_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="shows nothing"):
        read_study(saved(film())).windowed(*window)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_signed_and_wide_values_are_shown_in_their_order(kind: str) -> None:
    info = np.iinfo(kind)
    values = np.linspace(info.min // 2, info.max // 2, 64 * 64).astype(kind).reshape(64, 64)
    result = grey(read_study(saved(film(values))))
    assert (np.diff(result.ravel()) >= 0).all() and result.min() == 0 and result.max() == 255
    assert (np.asarray(read_study(saved(film(values))).raw.values) == values).all()  # type: ignore[union-attr]


def test_the_first_of_several_windows_is_shown_and_all_are_offered() -> None:
    study = read_study(saved(film(WindowCenter=[700, 300, 300], WindowWidth=[200, 90, 90], Modality="MR")))
    assert study.window == (700, 200)
    presets = study.presets()
    assert (presets["header"], presets["header_2"]) == ((700, 200), (300, 90))
    assert set(presets) == {"auto", "wide", "header", "header_2"}


@pytest.mark.parametrize("window", [(100_000, 10), (5, 0), (5, -4), ("", ""), ("1e999", 5)])
def test_a_window_that_shows_no_picture_gives_way_to_an_automatic_one(window: tuple[Any, Any]) -> None:
    header = film()
    for tag, value in zip((0x00281050, 0x00281051), window, strict=True):
        header.add_new(tag, "LO", str(value))  # a wrong VR, too
    study, plain = read_study(saved(header)), read_study(saved(film()))
    assert study.window == plain.window == (768.0, 1536.0) and (grey(study) == grey(plain)).all()


def test_the_automatic_window_draws_itself_again() -> None:
    study = read_study(saved(film()))
    assert study.window is not None
    assert (grey(study.windowed(*study.window)) == grey(study)).all()


@pytest.mark.parametrize("shape", ["curve", "signed", "narrow"])
def test_a_lookup_table_is_the_standards(shape: str) -> None:
    table = Dataset()
    if shape == "signed":
        values = np.arange(-768, 768, dtype=np.int16).reshape(32, 48)
        table.LUTDescriptor = [1000, -500, 12]
        table["LUTDescriptor"].VR = "SS"
        table.LUTData = [int(4095 * (i / 999) ** 2) for i in range(1000)]
    else:
        values = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48)
        table.LUTDescriptor = [1024, 100, 16 if shape == "curve" else 10]
        table["LUTDescriptor"].VR = "US"
        table.LUTData = [int((2 ** (16 if shape == "curve" else 10) - 1) * (i / 1023) ** 0.5) for i in range(1024)]
    table["LUTData"].VR = "US"
    header = film(values, VOILUTSequence=[table], WindowCenter=5, WindowWidth=7)
    study = read_study(saved(header))
    top = 2 ** int(table.LUTDescriptor[2]) - 1
    assert study.window is None and study.presets()["header"] == (5, 7)
    assert np.abs(grey(study) - 255 * apply_voi(values, header).astype(float) / top).max() <= 0.51


def test_a_modality_table_comes_before_the_window() -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [1536, 0, 16], "US"
    table.LUTData = list(range(3000, 0, -2))[:1500] + [0] * 36
    for keyword in ("LUTDescriptor", "LUTData"):
        table[keyword].VR = "US"
    study = read_study(saved(film(ModalityLUTSequence=[table], WindowCenter=1500, WindowWidth=3000)))
    assert study.raw is not None and study.raw.values[0, 0] == 3000 and study.raw.values[-1, -1] == 0
    assert grey(study)[0, 0] == 255 and grey(study)[-1, -1] == 0


def test_monochrome1_is_the_negative_and_inverting_it_the_positive() -> None:
    positive = read_study(saved(film(WindowCenter=700, WindowWidth=800)))
    negative = read_study(saved(film(WindowCenter=700, WindowWidth=800, PhotometricInterpretation="MONOCHROME1")))
    assert (np.abs(grey(negative) + grey(positive) - 255) <= 1).all()
    assert (grey(negative.windowed(700, 800, inverted=True)) == grey(positive)).all()
    assert (grey(negative.windowed(700, 800)) == grey(negative)).all()


@pytest.mark.parametrize(("kind", "high_bit"), [("uint16", 11), ("int16", 11), ("uint16", 13), ("int16", 15)])
def test_bits_beside_the_stored_ones_are_masked(kind: str, high_bit: int) -> None:
    values = np.linspace(-2048 if kind == "int16" else 0, 2047, 32 * 48).astype(kind).reshape(32, 48)
    above = np.uint16(0xFFFF << (high_bit + 1) & 0xFFFF) & np.uint16(0x5555)
    below = np.uint16((1 << (high_bit - 11)) - 1)
    stored = (values.view(np.uint16) & 0x0FFF) << (high_bit - 11) | above | below
    study = read_study(saved(film(stored.astype(np.uint16).view(kind), BitsStored=12, HighBit=high_bit)))
    assert study.raw is not None and study.raw.bits == 12
    assert (study.raw.values == values).all()


def test_ct_numbers_have_their_presets_and_projections_theirs() -> None:
    values = np.arange(32 * 48, dtype=np.int16).reshape(32, 48)
    study = read_study(saved(film(values, Modality="CT", RescaleSlope=2, RescaleIntercept=-1024)))
    assert study.raw is not None and study.raw.values[0, 0] == -1024 and study.raw.values[0, 1] == -1022
    assert study.presets()["lung"] == (-600, 1500) and study.presets()["bone"] == (400, 1800)
    positive = read_study(saved(film(Modality="DX")))
    negative = read_study(saved(film(Modality="DX", PhotometricInterpretation="MONOCHROME1")))
    for chest, dark in ((positive, grey(positive) < 100), (negative, grey(negative) < 100)):
        lung, bone = (grey(chest.windowed(*chest.presets()[name])) for name in ("lung", "bone"))
        assert len(np.unique(lung[dark])) > len(np.unique(bone[dark]))
    assert "lung" not in read_study(saved(film(Modality="MR"))).presets()


def test_one_value_everywhere_is_mid_grey_and_has_no_presets() -> None:
    study = read_study(saved(film(np.full((16, 16), 9, np.uint16), WindowCenter=9, WindowWidth=1)))
    assert (grey(study) == 128).all() and study.presets() == {} and study.window is None


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_float_pixels_are_read(keyword: str) -> None:
    header = film()
    del header.PixelData
    values = np.linspace(-0.5, 0.25, 32 * 48).astype("<f4" if keyword == "FloatPixelData" else "<f8")
    values[5] = np.nan
    setattr(header, keyword, values.tobytes())
    header.BitsAllocated = 8 * values.itemsize
    result = grey(read_study(saved(header))).ravel()
    assert result[5] == 0 and result[0] == 0 and result[-1] == 255 and result[767] in (127, 128)


def test_an_enhanced_file_says_it_in_its_groups() -> None:
    def group(**macros: Dataset) -> Dataset:
        outer = Dataset()
        for keyword, macro in macros.items():
            setattr(outer, keyword, [macro])
        return outer

    measures, voi, rescale = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    voi.WindowCenter, voi.WindowWidth = 40, 400
    rescale.RescaleIntercept, rescale.RescaleSlope = -1000, 1
    shared = group(PixelMeasuresSequence=measures)
    frames = [group(FrameVOILUTSequence=voi, PixelValueTransformationSequence=rescale), group()]
    values = np.stack([np.arange(1536, dtype=np.uint16).reshape(32, 48)] * 2)
    tags = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    study = read_study(saved(film(values, Modality="CT", **tags)))
    assert (study.spacing, study.window, study.frames) == ((0.5, 0.25), (40, 400), 2)
    assert study.raw is not None and study.raw.is_hounsfield and study.raw.values[0, 0] == -1000


# Other pictures have raw values too


@pytest.mark.parametrize(("name", "kind"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.float32), ("PNG", np.uint8)])
def test_other_grey_files_can_be_windowed(name: str, kind: type[np.generic]) -> None:
    values = np.linspace(0, 200, 32 * 48).astype(kind).reshape(32, 48)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(file, name, exif=exif)
    study = read_study(file.getvalue())
    assert study.image.size == (32, 48) and study.raw is not None
    assert (study.raw.values == np.rot90(values, -1)).all()
    windowed = grey(study.windowed(100, 50))
    assert windowed[study.raw.values < 75].max() == 0 and windowed[study.raw.values > 125.5].min() == 255
    assert {"auto", "wide", "lung", "bone"} == set(study.presets())


def test_colour_is_not_windowed() -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (20, 20, 3), np.uint8)).save(file, "PNG")
    study = read_study(file.getvalue())
    assert study.raw is None and study.windowed(5, 5, inverted=True) is study and study.presets() == {}


# How pixels are stored


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint32"])
def test_every_plain_syntax_gives_the_values(syntax: str, kind: str) -> None:
    values = np.arange(33 * 47).astype(kind).reshape(33, 47)
    study = read_study(saved(film(values, syntax)))
    assert study.raw is not None and (study.raw.values == values).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16"])
def test_every_lossless_syntax_gives_the_values(syntax: UID, kind: str) -> None:
    values = (np.indices((40, 56)).sum(0) * 37 % 251 - (90 if kind == "int16" else 0)).astype(kind)
    header = film(values, WindowCenter=90, WindowWidth=300)
    header.compress(syntax)
    study = read_study(saved(header))
    assert study.raw is not None and (study.raw.values == values).all()


def test_lossless_jpeg_gives_the_values(tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm")
    values = (np.indices((40, 56)).sum(0) * 371 % 4001).astype(np.uint16)
    (tmp_path / "plain.dcm").write_bytes(saved(film(values, BitsStored=12, HighBit=11)))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(tmp_path / "plain.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    study = read_study((tmp_path / "packed.dcm").read_bytes())
    assert study.raw is not None and (study.raw.values == values).all()


COLOURFUL = ["SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit_2frame.dcm"]
COLOURFUL += [
    "SC_ybr_full_422_uncompressed.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_rgb_gdcm_KY.dcm",
    "SC_rgb_jls_lossy_line.dcm",
]


@pytest.mark.parametrize("name", COLOURFUL)
def test_colour_bars_are_seen_in_their_colours(name: str) -> None:
    study = read_study((OWN / name).read_bytes())
    middles = [study.image.getpixel((50, y)) for y in (5, 25, 45, 95)]
    expected = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    assert np.abs(np.subtract(middles, expected)).max() <= 6 and study.raw is None
    assert study.frames == (2 if "2frame" in name else 1)


@pytest.mark.parametrize("planar", [0, 1])
def test_both_orders_of_colour_are_read(planar: int) -> None:
    values = np.random.default_rng(3).integers(0, 255, (20, 30, 3), np.uint8)
    header = film(values, PlanarConfiguration=planar)
    header.PixelData = (values.transpose(2, 0, 1) if planar else values).tobytes()
    assert (np.asarray(read_study(saved(header)).image) == values).all()


def test_a_palette_gives_colours() -> None:
    header = pydicom.dcmread(OWN / "examples_palette.dcm")
    expected = apply_color_lut(header.pixel_array, header) / 65535 * 255
    study = read_study((OWN / "examples_palette.dcm").read_bytes())
    assert np.abs(np.asarray(study.image, float) - expected).max() <= 1 and study.raw is None


def test_of_two_hundred_frames_the_first_is_shown() -> None:
    values = np.arange(200, dtype=np.uint8)[:, None, None] + np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    study = read_study(saved(film(values)))
    assert study.frames == 200 and study.raw is not None and (study.raw.values == values[0]).all()
    header = film(values)
    header.compress(RLELossless)
    packed = read_study(saved(header))
    assert packed.frames == 200 and (grey(packed) == grey(study)).all()


def test_one_bit_is_black_and_white() -> None:
    study = read_study((OWN / "liver_1frame.dcm").read_bytes())
    assert set(np.unique(grey(study))) == {0, 255}


@pytest.mark.parametrize(
    ("tags", "spacing", "source"),
    [
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "PixelSpacing"),
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "ImagerPixelSpacing"),
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "ImagerPixelSpacing"),
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.3, 0.3]}, (0.2, 0.1), "PixelSpacing"),
        ({"PixelSpacing": [0, 0]}, None, None),
        ({"PixelSpacing": "0.2"}, None, None),
    ],
)
def test_the_spacing_names_its_source(tags: dict[str, Any], spacing: object, source: object) -> None:
    study = read_study(saved(film(**tags)))
    assert (study.spacing, study.spacing_from) == (spacing, source)


def test_side_and_view_come_from_the_header_or_not_at_all() -> None:
    assert (read_study(saved(film())).view, read_study(saved(film())).laterality) == (None, None)
    study = read_study(saved(film(ViewPosition=" pa", Laterality="R", Modality="DX")))
    assert (study.view, study.laterality, study.modality) == ("PA", "R", "DX")


# What is refused


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("reportsi.dcm", "dicom_no_image"),
        ("rtplan.dcm", "dicom_no_image"),
        ("waveform_ecg.dcm", "dicom_no_image"),
        ("ExplVR_BigEndNoMeta.dcm", "dicom_no_image"),
        ("dicomdirtests/DICOMDIR", "dicom_directory"),
        ("dicomdirtests/DICOMDIR-bigEnd", "dicom_directory"),
        ("JPGExtended.dcm", "dicom_compression"),
        ("MR_truncated.dcm", "broken"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "broken"),
        ("SC_rgb_small_odd.dcm", "too_small"),
    ],
)
def test_what_is_no_readable_picture_is_named(name: str, reason: str) -> None:
    assert refused((OWN / name).read_bytes()).reason == reason


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.107", "1.2.840.113619.5.2", "1.2.3", "nonsense"]
)
def test_video_and_unknown_compression_are_named(syntax: str) -> None:
    header = film()
    header.PixelData = encapsulate([b"\0\0\1\xb3"])
    data = saved(header).replace(
        b"UI\x14\x00" + EXPLICIT.encode() + b"\0", struct.pack("<2sH", b"UI", 24) + syntax.encode().ljust(24, b"\0")
    )
    assert refused(data).reason == "dicom_compression"


def test_a_header_alone_holds_no_image() -> None:
    data = saved(film())
    cut = data.index(b"\xe0\x7f\x10\x00")
    assert refused(data[:cut]).reason == "dicom_no_image"
    assert refused(data[: cut + 12]).reason == refused(data[:-1]).reason == "broken"


@pytest.mark.parametrize("length", [132, 133, 140, 160, 200])
def test_a_file_that_breaks_off_early_is_refused(length: int) -> None:
    assert refused(saved(film())[:length]).reason in ("dicom_no_image", "broken")


@pytest.mark.parametrize(
    "tags",
    [
        {"BitsAllocated": 12},
        {"BitsStored": 17},
        {"BitsStored": 0},
        {"SamplesPerPixel": 4},
        {"SamplesPerPixel": 3},
        {"PhotometricInterpretation": "HSV"},
        {"PixelRepresentation": 7},
        {"Rows": 0},
        {"PhotometricInterpretation": "PALETTE COLOR"},
    ],
)
def test_a_layout_without_sense_is_refused(tags: dict[str, Any]) -> None:
    assert refused(saved(film(**tags))).reason == "broken"


@pytest.mark.parametrize("syntax", [EXPLICIT, RLELossless, JPEG2000Lossless])
def test_a_huge_size_is_refused_by_its_tags(syntax: str) -> None:
    header = film(Rows=65535, Columns=65535)
    header.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax != EXPLICIT:
        header.PixelData = encapsulate([b"\1" + bytes(800)])
    error = refused(saved(header))
    assert error.reason == "too_many_pixels" and error.fields["width"] == 65535


def test_wide_pixels_weigh_more() -> None:
    header = film(Rows=6000, Columns=6000, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    assert refused(saved(header)).fields["limit"] == 40_000_000 * 4 // 6


def test_a_codestream_that_disagrees_with_the_tags_is_refused() -> None:
    values = np.indices((40, 56)).sum(0).astype(np.uint8)
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        header = film(values)
        header.compress(syntax)
        assert isinstance(outcome(saved(header)), Study)
        header.Rows, header.Columns = (56, 40) if syntax != RLELossless else (4000, 5600)
        assert refused(saved(header)).reason == "broken"
    picture = io.BytesIO()
    Image.new("L", (56, 40)).save(picture, "JPEG")
    for rows, reason in ((40, None), (39, "broken")):
        header = film(values, Rows=rows)
        header.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        header.PixelData = encapsulate([picture.getvalue()])
        assert getattr(outcome(saved(header)), "reason", None) == reason


@given(
    st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xc0", b"\xff\x4f\xff\x51", b"jP  \xff\x4f\xff\x51"]),
    st.binary(max_size=80),
)
def test_any_bytes_declare_a_size_or_nothing(start: bytes, noise: bytes) -> None:
    try:
        result: object = declared(start + noise)
    except ValueError as error:
        result = error
    assert "codestream" in str(result) or isinstance(result, Declared)


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, len(value) if length is None else length) + value


def with_meta(body: bytes, syntax: str = EXPLICIT) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid + body


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
NEST = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)


def dataset(header: Dataset) -> bytes:
    """What follows the file meta group: a film begins with its samples per pixel."""
    return saved(header)[saved(header).index(b"\x28\0\x02\0") :]


def deflated(start: bytes) -> bytes:
    """These bytes and then 800 MB of zeros, as a raw deflate stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return packed + zeros * 800 + packer.flush()


PIXELS = element(0x7FE00010, b"OW", b"", 0x40000000)
BOMBS = {
    "items": ("broken", lambda: element(0x00081140, b"SQ", ITEM * 1_000_000, 0xFFFFFFFF)),
    "elements": ("broken", lambda: struct.pack("<HH2sH", 8, 0x60, b"CS", 0) * 1_000_000),
    "nested": ("broken", lambda: (element(0x00081140, b"SQ", b"", 0xFFFFFFFF) + NEST) * 100_000),
    "tables": ("study", lambda: element(0x00283010, b"SQ", ITEM * 4_000_000) + dataset(film())),
    "implicit numbers": (
        "study",
        lambda: struct.pack("<HHI", 0x28, 0x1050, 32_000_000) + b"1\\" * 16_000_000 + dataset(film(syntax=IMPLICIT)),
    ),
    "deflated pixels": ("broken", lambda: deflated(PIXELS)),
    "deflated header": ("dicom_no_image", lambda: deflated(element(0x00081140, b"SQ", b"", 0x40000000))),
    "deflated film": ("study", lambda: deflated(dataset(film())[: -len(film().PixelData) - 12] + PIXELS)),
}


def test_bombs_take_little_memory(tmp_path: Path) -> None:
    for name, (_, body) in BOMBS.items():
        syntax = {"deflated": DEFLATED, "implicit": IMPLICIT}.get(name.split()[0], EXPLICIT)
        (tmp_path / name).write_bytes(with_meta(body(), syntax))
    assert (tmp_path / "deflated film").stat().st_size < 1_000_000
    assert read_bounded(tmp_path, 1 << 30) == {name: reason for name, (reason, _) in BOMBS.items()}


def read_bounded(folder: Path, address_space: int) -> dict[str, str]:
    """What becomes of each file of a folder, in a process of its own that may have only so much memory."""
    code = """if True:
        import resource, sys
        from pathlib import Path
        from vision.study import StudyError, read_trusted
        import vision.dicom
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
        for path in sorted(Path(sys.argv[1]).iterdir()):
            try:
                read_trusted(path.read_bytes(), 4_000_000)
                print(path.name, "study", sep="/")
            except StudyError as error:
                print(path.name, error.reason, sep="/")
    """
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(folder), str(address_space)]
    done = subprocess.run(command, capture_output=True, text=True, env=alone, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.rsplit("/", 1) for line in done.stdout.splitlines())


# Identity


IDENTITY = {
    "PatientName": NAME, "PatientID": "ID-774411", "PatientBirthDate": "19610203", "StudyDate": "20190807",
    "InstitutionName": "Saint Elsewhere", "ReferringPhysicianName": "DR^WHO", "AccessionNumber": "ACC-9090",
    "StudyInstanceUID": "1.2.826.0.1.3680043.77", "SeriesInstanceUID": "1.2.826.0.1.3680043.78", "StudyID": "ST-5150",
    "StudyDescription": "private words", "PatientComments": "lives in Seoul", "DeviceSerialNumber": "SER-31337",
}  # fmt: skip
SMUGGLED = ("ViewPosition", "ImageLaterality", "Laterality", "Modality", "WindowCenterWidthExplanation", "VOILUTFunction")


def planted(header: Dataset) -> Dataset:
    """The same file with an identity in every place that can hold one."""
    for keyword, value in IDENTITY.items():
        setattr(header, keyword, value)
    for keyword in SMUGGLED:
        setattr(header, keyword, "SMUGGLED9")
    inner = Dataset()
    inner.PatientName, inner.LUTExplanation = NAME, "SMUGGLED9"
    header.OtherPatientIDsSequence = [inner]
    header.SharedFunctionalGroupsSequence = [inner]
    header.add_new(0x00091001, "LO", NAME)
    header.add_new(0x00090010, "LO", "SMUGGLED9")
    return header


def everything(thing: object, seen: set[int]) -> Iterator[str]:
    """Every text and byte that can be reached from a value."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        yield thing.tobytes().decode("latin-1")
        return
    yield repr(thing)
    if isinstance(thing, bytes):
        yield thing.decode("latin-1")
    elif isinstance(thing, dict):
        for pair in thing.items():
            yield from everything(pair, seen)
    elif isinstance(thing, list | tuple | set):
        for item in thing:
            yield from everything(item, seen)
    elif isinstance(thing, Image.Image | BaseException):
        yield from everything(vars(thing), seen)
        yield from everything(getattr(thing, "args", ()), seen)
        yield from everything([getattr(thing, name, None) for name in ("__cause__", "__context__")], seen)
    elif is_dataclass(thing):
        for item in fields(thing):
            yield from everything(getattr(thing, item.name), seen)


def assert_nobody(data: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Study | StudyError:
    with caplog.at_level(logging.DEBUG):
        result = outcome(data)
    texts = [*everything(result, set()), caplog.text, *capfd.readouterr()]
    if isinstance(result, StudyError):
        texts += [str(result), *sentences(result)]
    secrets = [NAME.split("^")[1], "SMUGGLED9", *(value for value in IDENTITY.values())]
    assert [secret for secret in secrets for text in texts if secret in text] == []
    return result


@pytest.mark.parametrize("syntax", [*NATIVE, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("damage", ["", "cut", "tags"])
def test_nobody_is_in_a_study_or_an_error(
    syntax: str, damage: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    header = planted(film(syntax=syntax if syntax in NATIVE else EXPLICIT))
    if syntax not in NATIVE:
        header.compress(UID(syntax))
    if damage == "tags":
        header.Columns = 4000
    data = saved(header)
    assert syntax == DEFLATED or data.count(NAME.encode()) >= 3
    result = assert_nobody(data[:-900] if damage == "cut" else data, caplog, capfd)
    assert isinstance(result, StudyError if damage else Study)


@needs_shared
def test_nobody_is_in_a_study_of_a_real_film(
    shared_data: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in sorted((shared_data / "dicom").glob("*.dcm")):
        study = assert_nobody(saved(planted(pydicom.dcmread(path))), caplog, capfd)
        assert isinstance(study, Study) and study.view is None and study.modality is None


def test_the_identity_search_would_find_one() -> None:
    study = Study(Image.new("RGB", (9, 9)), view=NAME)
    assert any(NAME in text for text in everything(study, set()))


# Real files, and damaged ones


def test_a_real_film_looks_right(shared_data: Path) -> None:
    films = {path.stem: read_study(path.read_bytes()) for path in sorted((shared_data / "dicom").glob("*.dcm"))}
    computed, inverse, direct = films.values()
    assert computed.window == (15000, 30000) and computed.raw is not None and computed.raw.bits == 15
    assert computed.spacing is None and direct.spacing == (0.168, 0.168)
    assert {study.view for study in films.values()} == {"PA"} and {study.modality for study in films.values()} == {"CR"}
    for study in (computed, direct):
        pixels = grey(study)
        height, width = pixels.shape
        band = pixels[int(0.3 * height) : int(0.45 * height)]
        spine = band[:, int(0.47 * width) : int(0.53 * width)].mean()
        lungs = [band[:, int(share * width) : int((share + 0.1) * width)].mean() for share in (0.22, 0.68)]
        assert spine > max(lungs) + 30  # bone is bright, air is dark
    assert (grey(inverse) + grey(direct) == 255).mean() > 0.99  # the same picture, whose tag turns it over


OWN_FILES = sorted(path for path in OWN.rglob("*") if path.is_file())
QUICK = [path for path in OWN_FILES if b"1.2.840.10008.1.2.4" not in path.read_bytes()[:1000]]


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.name)
def test_pydicoms_own_files_give_a_study_or_a_sentence(path: Path) -> None:
    result = outcome(path.read_bytes())
    assert isinstance(result, Study) or str(result).endswith(".")


@settings(max_examples=300)
@given(
    st.sampled_from(["MR_small.dcm", "MR_small_implicit.dcm", "image_dfl.dcm", "examples_palette.dcm", "rtdose_expb.dcm"]),
    st.data(),
)
def test_a_damaged_file_gives_a_study_or_a_sentence(name: str, draws: st.DataObject) -> None:
    data = bytearray((OWN / name).read_bytes())
    for _ in range(draws.draw(st.integers(1, 12))):
        place = draws.draw(st.integers(0, min(len(data), 3000) - 1) | st.integers(0, len(data) - 1))
        data[place] = draws.draw(st.integers(0, 255))
    outcome(bytes(data[: draws.draw(st.just(len(data)) | st.integers(0, len(data)))]))


@settings(max_examples=12)
@given(
    st.sampled_from(["MR_small_jp2klossless.dcm", "JPEGLSNearLossless_16.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_gdcm.dcm"]),
    st.data(),
)
def test_a_damaged_codestream_gives_a_study_or_a_sentence(name: str, draws: st.DataObject) -> None:
    data = bytearray((OWN / name).read_bytes())
    start = data.rindex(b"\xe0\x7f\x10\x00")
    for _ in range(draws.draw(st.integers(1, 8))):
        data[draws.draw(st.integers(start, len(data) - 1))] = draws.draw(st.integers(0, 255))
    outcome(bytes(data))


@needs_shared
@pytest.mark.parametrize("folder", ["pillow", "pydicom"])
def test_files_that_broke_decoders_stay_within_memory(folder: str) -> None:
    reasons = read_bounded(SHARED / "bad_inputs" / folder, 3 << 29)
    assert len(reasons) == len(list((SHARED / "bad_inputs" / folder).iterdir()))
    assert "not_enough_memory" not in reasons.values()
