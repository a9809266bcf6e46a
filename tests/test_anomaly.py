"""Anomalies: the odd one out in a row of like parts is found, and where nothing repeats that is said."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from test_cli import assert_refused, run

from vision.anomaly import LARGEST, inspect, remember
from vision.periodic import find_rows
from vision.tiling import Box


def chain(seed: int, missing: int | None, degrees: float = 0.0, size: tuple[int, int] = (900, 600)) -> tuple[Image.Image, Box]:
    """A row of 24 discs on a soft ground, without number `missing`; and where that disc would be."""
    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(90, 170, (6, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    sheet = Image.new("RGBA", size)
    pen, mark = ImageDraw.Draw(sheet), Image.new("L", size)
    y = size[1] // 2
    pen.line((120, y, 120 + 24 * 26, y), fill=(80, 60, 60, 255), width=6)
    for number in range(24):
        box = (120 + 26 * number, y - 24, 120 + 26 * number + 14, y + 24)
        if number == missing:
            mark.paste(255, box)
            continue
        pen.ellipse(box, fill=(140, 80, 80, 255), outline=(40, 30, 30, 255))
    ground.paste(sheet.rotate(degrees, Image.Resampling.BICUBIC), (0, 0), sheet.rotate(degrees, Image.Resampling.BICUBIC))
    noise = rng.normal(0, 3, (size[1], size[0], 3))
    noisy = np.clip(np.asarray(ground.filter(ImageFilter.GaussianBlur(0.7))) + noise, 0, 255).astype(np.uint8)
    found = mark.rotate(degrees).getbbox()
    return Image.fromarray(noisy), Box(*(found or (0, 0, 1, 1)))


def covers(box: Box, other: Box) -> bool:
    x, y = (other.left + other.right) / 2, (other.top + other.bottom) / 2
    return box.left <= x < box.right and box.top <= y < box.bottom


@pytest.mark.parametrize(
    ("seed", "degrees"), [(0, 0), *(pytest.param(*turned, marks=pytest.mark.slow) for turned in ((2, -30), (3, 80)))]
)
def test_the_missing_disc_is_the_first_hit(seed: int, degrees: float) -> None:
    image, gap = chain(seed, 9 + seed, degrees, (900, 900))
    found = inspect(image)
    assert found.rows >= 1 and covers(found.hits[0].box, gap)
    whole = inspect(chain(seed, None, degrees, (900, 900))[0])
    assert 1 >= found.score > 0.5 and (not whole.hits or found.hits[0].score > whole.hits[0].score)
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    most = LARGEST * image.width * image.height
    assert all(h.box.size[0] * h.box.size[1] <= most and h.box.clipped(image.size) == h.box for h in found.hits)
    assert found.heatmap.values.min() >= 0 and found.heatmap.values.max() == 1


@pytest.mark.slow
def test_a_large_picture_gives_the_same_place_as_a_small_one() -> None:
    image, gap = chain(5, 12)
    large = inspect(image.resize((3600, 2400), Image.Resampling.BICUBIC)).hits[0].box
    assert covers(large, Box(4 * gap.left, 4 * gap.top, 4 * gap.right, 4 * gap.bottom))


@pytest.mark.parametrize("size", [(8, 8), (130, 2), (700, 500), (4000, 60)])
def test_where_nothing_repeats_nothing_is_found(size: tuple[int, int]) -> None:
    noise = Image.effect_noise(size, 50).convert("RGB")
    ramp = Image.linear_gradient("L").resize(size).convert("RGB")
    for image in (Image.new("RGB", size, "grey"), noise, ramp):
        found = inspect(image)
        assert (found.score, found.hits, found.rows) == (0.0, (), 0) and found.result()["repeating"] is False


def test_a_beam_repeats_nothing() -> None:
    image = Image.new("RGB", (900, 600), "white")
    ImageDraw.Draw(image).line((50, 100, 850, 500), fill="black", width=20)
    assert find_rows(image) == []


def test_normal_images_lower_what_they_show_too() -> None:
    memory = remember([chain(seed, None)[0] for seed in (20, 21)])
    image, gap = chain(22, 11)
    assert memory is not None and covers(inspect(image, memory).hits[0].box, gap)
    assert remember([Image.new("RGB", (300, 300))]) is None


def test_the_command_line_writes_a_line_per_image_and_a_table(tmp_path: Path) -> None:
    chain(1, 8)[0].save(tmp_path / "a.png")
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "S", 2: (37.0, 30.0, 0.0), 3: "E", 4: (127.0, 0.0, 36.0)})
    Image.new("RGB", (300, 300)).save(tmp_path / "b.jpg", exif=exif)
    (tmp_path / "c.png").write_bytes(b"no image")
    done = run("inspect", tmp_path, "--json", "--csv", tmp_path / "table.csv", "--gps")
    assert done.returncode == 1
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert first["hits"] and len(first["hits"][0]["box"]) == 4 and 0 < first["score"] <= 1
    assert (second["hits"], second["repeating"]) == ([], False) and "error" in third
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(first["hits"]) + 2
    assert (rows[-2]["latitude"], rows[-2]["longitude"]) == ("-37.5", "127.01") and rows[0]["latitude"] == ""


def test_a_folder_of_normal_images_without_rows_is_one_sentence(tmp_path: Path) -> None:
    Image.new("RGB", (300, 300)).save(tmp_path / "plain.png")
    assert_refused(run("inspect", tmp_path / "plain.png", "--normal", tmp_path), "in the normal images")
