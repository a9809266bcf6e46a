"""Tiles cover the image, keep small things whole, and come one at a time."""

from itertools import islice, pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vision.tiling import Box, cut, even_tiles, plan_tiles

sides = st.integers(1, 700)
sizes = st.tuples(sides, sides)
tiles = st.integers(16, 512)
overlaps = st.floats(0, 0.9)


def columns(boxes: list[Box]) -> list[tuple[int, int]]:
    return sorted({(box.left, box.right) for box in boxes})


def rows(boxes: list[Box]) -> list[tuple[int, int]]:
    return sorted({(box.top, box.bottom) for box in boxes})


@given(size=sizes, tile=tiles, overlap=overlaps)
def test_every_pixel_stands_in_some_tile(size: tuple[int, int], tile: int, overlap: float) -> None:
    seen = np.zeros(size[::-1], bool)
    for box in plan_tiles(size, tile, overlap):
        seen[box.top : box.bottom, box.left : box.right] = True
    assert seen.all()


@given(size=sizes, tile=tiles, overlap=overlaps, data=st.data())
def test_an_object_up_to_the_overlap_stands_whole_in_some_tile(
    size: tuple[int, int], tile: int, overlap: float, data: st.DataObject
) -> None:
    most = max(1, int(overlap * tile))
    width, height = (data.draw(st.integers(1, min(most, side))) for side in size)
    left, top = data.draw(st.integers(0, size[0] - width)), data.draw(st.integers(0, size[1] - height))
    assert any(
        box.left <= left and left + width <= box.right and box.top <= top and top + height <= box.bottom
        for box in plan_tiles(size, tile, overlap)
    )


@given(size=sizes, tile=tiles, overlap=overlaps)
def test_tiles_lie_inside_the_image_and_have_the_full_side(size: tuple[int, int], tile: int, overlap: float) -> None:
    for box in plan_tiles(size, tile, overlap):
        assert box.clipped(size) == box
        assert box.size == (min(tile, size[0]), min(tile, size[1]))


@given(size=sizes, tile=tiles, overlap=overlaps)
def test_neighbours_share_the_overlap_and_are_evenly_spread(size: tuple[int, int], tile: int, overlap: float) -> None:
    boxes = list(plan_tiles(size, tile, overlap))
    for line in (columns(boxes), rows(boxes)):
        steps = [right[0] - left[0] for left, right in pairwise(line)]
        assert all(left[1] - right[0] >= min(overlap * tile, tile - 1) for left, right in pairwise(line))
        assert not steps or max(steps) - min(steps) <= 1


@given(size=sizes, tile=tiles, overlap=overlaps)
def test_no_tile_comes_twice_and_none_is_more_than_needed(size: tuple[int, int], tile: int, overlap: float) -> None:
    boxes = list(plan_tiles(size, tile, overlap))
    assert len(set(boxes)) == len(boxes) == len(columns(boxes)) * len(rows(boxes))
    step = tile - ceil(overlap * tile)
    for line, side in ((columns(boxes), size[0]), (rows(boxes), size[1])):
        assert len(line) == 1 + max(0, ceil((side - tile) / step))


@given(size=sizes, tile=tiles, overlap=overlaps)
def test_the_plan_is_the_same_each_time_and_goes_row_by_row(size: tuple[int, int], tile: int, overlap: float) -> None:
    boxes = list(plan_tiles(size, tile, overlap))
    assert boxes == list(plan_tiles(size, tile, overlap))
    assert boxes == sorted(boxes, key=lambda box: (box.top, box.left))


def test_an_image_smaller_than_a_tile_yields_itself() -> None:
    assert list(plan_tiles((100, 80), 336, 0.25)) == [Box(0, 0, 100, 80)]
    assert list(plan_tiles((336, 336), 336, 0.25)) == [Box(0, 0, 336, 336)]


def test_a_huge_strip_is_covered_one_row_high() -> None:
    boxes = list(plan_tiles((100_000, 300), 336, 0.25))
    assert {(box.top, box.bottom) for box in boxes} == {(0, 300)}
    assert boxes[0].left == 0 and boxes[-1].right == 100_000
    assert all(second.left <= first.right - 84 for first, second in pairwise(boxes))


def test_a_plan_too_long_to_hold_can_be_begun() -> None:
    first = list(islice(plan_tiles((10**9, 10**9), 1, 0), 2))
    assert first == [Box(0, 0, 1, 1), Box(1, 0, 2, 1)]


@pytest.mark.parametrize("overlap", [0.95, 0.999, 1 - 2**-53])
def test_an_overlap_of_nearly_all_still_moves_on(overlap: float) -> None:
    assert [box.left for box in plan_tiles((12, 10), 10, overlap)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [((9, 9), 4, 1.0), ((9, 9), 4, -0.1), ((9, 9), 4, float("nan")), ((9, 9), 0, 0.5), ((0, 9), 4, 0.5), ((9, -1), 4, 0.5)],
)
def test_what_cannot_cover_is_refused_at_the_call(size: tuple[int, int], tile: int, overlap: float) -> None:
    with pytest.raises(ValueError, match="cannot cover"):
        plan_tiles(size, tile, overlap)


@given(size=sizes, most=st.integers(0, 20))
def test_even_tiles_cover_the_image_within_their_number(size: tuple[int, int], most: int) -> None:
    boxes = even_tiles(size, most)
    seen = np.zeros(size[::-1], bool)
    for box in boxes:
        assert box.clipped(size) == box
        seen[box.top : box.bottom, box.left : box.right] = True
    assert len(boxes) <= most and (seen.all() or not boxes)
    assert boxes or most < 4  # two rows of two always suffice


@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), edges=st.tuples(*[st.integers(-50, 90)] * 4))
def test_a_cut_is_the_part_of_the_box_that_lies_in_the_image(size: tuple[int, int], edges: tuple[int, int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image, box = Image.fromarray(pixels), Box(*edges)
    expected = pixels[max(0, box.top) : max(0, box.bottom), max(0, box.left) : max(0, box.right)]
    if expected.size:
        tile = cut(image, box)
        assert tile.box == box.clipped(size)
        assert np.array_equal(np.asarray(tile.image), expected)
    else:
        with pytest.raises(ValueError, match="outside"):
            cut(image, box)


def test_a_cut_does_not_change_with_its_source() -> None:
    image = Image.new("RGB", (20, 20))
    tile = cut(image, Box(0, 0, 20, 20))
    image.paste("white", (0, 0, 20, 20))
    assert tile.image.getextrema() == ((0, 0),) * 3


def test_a_cut_is_not_held_to_pillows_limit_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert cut(Image.new("RGB", (30, 30)), Box(1, 1, 29, 29)).image.size == (28, 28)
