"""What is drawn lies where it should, leaves the rest of the film alone, and costs a screenful whatever the study's size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vision.evidence import Heatmap, Mask
from vision.overlay import (
    GAP,
    PALETTE,
    WHITE,
    draw_boxes,
    draw_heatmap,
    draw_masks,
    shown_box,
    shown_size,
    side_by_side,
)
from vision.tiling import Box

sides = st.integers(1, 90)
sizes = st.tuples(sides, sides)
longests = st.integers(1, 60)


@st.composite
def boxed(draw: st.DrawFn) -> tuple[tuple[int, int], Box]:
    """An image's size and a box inside it."""
    width, height = draw(sizes)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (width, height), Box(left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))


def film(size: tuple[int, int], grey: int = 90) -> Image.Image:
    return Image.new("RGB", size, (grey, grey, grey))


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    return (np.asarray(before, int) != np.asarray(after, int)).any(-1)


def bounds(changes: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(changes.any(1)), np.flatnonzero(changes.any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


@given(size=sizes, longest=longests)
def test_a_drawing_keeps_the_shape_and_is_never_larger_than_asked_or_than_the_study(
    size: tuple[int, int], longest: int
) -> None:
    shown = shown_size(size, longest)
    assert 1 <= max(shown) <= min(longest, max(size))
    assert all(abs(s - o * max(shown) / max(size)) <= 1 for s, o in zip(shown, size, strict=True))


@given(case=boxed(), longest=longests)
def test_a_box_is_drawn_on_the_pixels_that_it_touches_and_on_no_other(case: tuple[tuple[int, int], Box], longest: int) -> None:
    size, box = case
    drawn = draw_boxes(film(size), [box], longest=longest)
    seen = bounds(changed(film(drawn.size), drawn))
    assert seen == shown_box(box, size, drawn.size)
    for place, exact, scale in (
        *((a, b, drawn.width / size[0]) for a, b in ((seen.left, box.left), (seen.right, box.right))),
        *((a, b, drawn.height / size[1]) for a, b in ((seen.top, box.top), (seen.bottom, box.bottom))),
    ):
        assert abs(place - exact * scale) < 1


def test_a_box_of_the_study_lands_on_an_overlay_of_another_size() -> None:
    overlay = film((100, 50))
    assert bounds(changed(overlay, draw_boxes(overlay, [Box(1000, 200, 1500, 400)], (2000, 1000)))) == Box(50, 10, 75, 20)


def test_a_box_outside_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        draw_boxes(film((20, 20)), [Box(30, 0, 40, 10)])


@given(case=boxed(), longest=longests)
def test_a_mask_is_outlined_on_the_pixels_that_it_touches_and_on_no_other(
    case: tuple[tuple[int, int], Box], longest: int
) -> None:
    """All of the rim but where it is the image's own edge; the line is one pixel wide at these sizes."""
    size, box = case
    values = np.zeros(size[::-1], bool)
    values[box.top : box.bottom, box.left : box.right] = True
    drawn = draw_masks(film(size), [Mask("lung", values)], longest)
    inside = np.zeros(drawn.size[::-1], bool)
    shown = shown_box(box, size, drawn.size)
    inside[shown.top : shown.bottom, shown.left : shown.right] = True
    core = np.zeros_like(inside)
    left, top = shown.left + (shown.left > 0), shown.top + (shown.top > 0)
    core[top : shown.bottom - (shown.bottom < drawn.height), left : shown.right - (shown.right < drawn.width)] = True
    assert (changed(film(drawn.size), drawn) == (inside & ~core)).all()


def test_each_label_has_one_colour() -> None:
    halves = np.arange(40)[None].repeat(40, 0) < 12
    masks = [Mask("lung", halves), Mask("heart", halves[:, ::-1]), Mask("lung", np.roll(halves, 14, 1))]
    drawn = draw_masks(film((40, 40)), masks)
    colours = [count_colour[1] for count_colour in drawn.getcolors() or []]
    assert set(colours) == {(90, 90, 90), *PALETTE[1:3]}


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="10 x 20 does not fit an image of 20 x 10"):
        draw_masks(film((20, 10)), [Mask("lung", np.ones((20, 10), bool))])


@given(size=st.tuples(st.integers(30, 200), st.integers(30, 200)), row=st.integers(0, 4), column=st.integers(0, 4))
def test_the_map_lies_over_its_own_cell_and_leaves_far_cells_alone(size: tuple[int, int], row: int, column: int) -> None:
    values = np.zeros((5, 5), np.float32)
    values[row, column] = 1
    drawn = draw_heatmap(film(size), Heatmap("PNEUMONIA", values), contour=False)
    changes = np.abs(np.asarray(drawn, int) - 90).sum(-1)
    top, left = np.unravel_index(changes.argmax(), changes.shape)
    assert abs((left + 0.5) / size[0] * 5 - column - 0.5) <= 0.6 and abs((top + 0.5) / size[1] * 5 - row - 0.5) <= 0.6
    seen = bounds(changes > 0)
    assert seen.left >= (column - 0.5) * size[0] / 5 - 1 and seen.right <= (column + 1.5) * size[0] / 5 + 1
    assert seen.top >= (row - 0.5) * size[1] / 5 - 1 and seen.bottom <= (row + 1.5) * size[1] / 5 + 1


def test_the_contour_runs_where_the_map_is_at_half_of_its_maximum() -> None:
    ramp = np.linspace(0, 0.6, 100, dtype=np.float32)[None].repeat(100, 0)
    drawn = draw_heatmap(film((100, 100)), Heatmap("PNEUMONIA", ramp), opacity=0)
    assert np.flatnonzero(changed(film((100, 100)), drawn).any(0)).tolist() == [50]


def test_the_more_a_place_matters_the_more_it_is_covered() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(8, 0)
    drawn = [draw_heatmap(film((64, 8), grey), Heatmap("PNEUMONIA", ramp), 0.7, contour=False) for grey in (60, 160)]
    left = np.asarray(drawn[1], int)[4, :, 0] - np.asarray(drawn[0], int)[4, :, 0]
    assert left[0] == 100 and abs(left[-1] - 30) <= 1 and (np.diff(left) <= 1).all()


def test_an_untrusted_map_has_no_colour() -> None:
    drawn = draw_heatmap(film((60, 60)), Heatmap("PNEUMONIA", np.eye(6, dtype=np.float32)), trusted=False)
    pixels = np.asarray(drawn)
    assert (pixels == pixels[..., :1]).all() and (pixels == WHITE).all(-1).any()


def test_a_map_that_says_nothing_draws_nothing() -> None:
    for values in (np.zeros((5, 5), np.float32), np.full((5, 5), np.nan, np.float32)):
        assert not changed(film((50, 50)), draw_heatmap(film((50, 50)), Heatmap("PNEUMONIA", values))).any()


def test_an_opacity_beyond_1_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        draw_heatmap(film((9, 9)), Heatmap("PNEUMONIA", np.ones((2, 2), np.float32)), opacity=1.5)


def test_a_study_of_20_megapixels_is_drawn_at_the_size_asked_for() -> None:
    study = Image.new("L", (5000, 4000), 40)
    heatmap = Heatmap("PNEUMONIA", np.eye(7, dtype=np.float32))
    assert draw_heatmap(study, heatmap, longest=640).size == (640, 512)
    assert draw_masks(study, [Mask("lung", np.ones((4000, 5000), bool))], 640).size == (640, 512)


def test_a_strip_of_one_pixel_can_be_drawn_on() -> None:
    drawn = draw_heatmap(film((3000, 1)), Heatmap("PNEUMONIA", np.ones((3, 3), np.float32)))
    assert drawn.size == (1024, 1) and changed(film((1024, 1)), drawn).all()


@given(first=sizes, second=sizes)
def test_pictures_side_by_side_keep_every_pixel(first: tuple[int, int], second: tuple[int, int]) -> None:
    row = side_by_side([film(first, 50), film(second, 200)])
    assert row.size == (first[0] + GAP + second[0], max(first[1], second[1]))
    grey = np.asarray(row)[..., 0]
    assert (grey[: first[1], : first[0]] == 50).all() and (grey[: second[1], first[0] + GAP :] == 200).all()
    assert (grey > 0).sum() == first[0] * first[1] + second[0] * second[1]


def test_nothing_side_by_side_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        side_by_side([])
