"""Phantoms say the truth about themselves."""

import numpy as np
import pytest

from finetune.phantom import SIDES, ZONES, Phantom, draw_phantom
from vision.tiling import Box

SEEDS = range(40)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Phantom, Phantom]]:
    """The same films with and without their opacity."""
    return [tuple(draw_phantom(np.random.default_rng(seed), present) for present in (True, False)) for seed in SEEDS]


def bounds(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def test_the_opacity_lies_in_the_named_third_of_the_named_lung(pairs):
    for ill, well in pairs:
        box, lung = ill.opacity.box, ill.lungs[ill.opacity.side]
        third = (lung.bottom - lung.top) / 3
        top = lung.top + ZONES.index(ill.opacity.zone) * third
        assert lung.left <= box.left and box.right <= lung.right
        assert top <= box.top + 0.5 and box.bottom - 0.5 <= top + third
        marked = np.asarray(ill.index) == 3
        assert (np.asarray(well.index)[marked] == SIDES.index(ill.opacity.side) + 1).all()


def test_the_opacity_is_brighter_than_the_same_place_without_it(pairs):
    for ill, well in pairs:
        marked = np.asarray(ill.index) == 3
        gain = np.asarray(ill.image.convert("L"), int) - np.asarray(well.image.convert("L"), int)
        assert gain[marked].mean() > 12
        assert marked.sum() >= 60


def test_far_from_the_opacity_the_films_are_equal(pairs):
    """Beyond the faint rim outside its box, and to one level: the film's blur carries its rounding along a row."""
    for ill, well in pairs:
        box, pad = ill.opacity.box, max(ill.opacity.box.size) // 2
        gain = np.abs(np.asarray(ill.image, int) - np.asarray(well.image, int)).max(2)
        gain[max(0, box.top - pad) : box.bottom + pad, max(0, box.left - pad) : box.right + pad] = 0
        assert gain.max() <= 1


def test_the_index_agrees_with_the_boxes(pairs):
    for ill, well in pairs:
        index = np.asarray(well.index)
        assert set(np.unique(index)) == {0, 1, 2} and well.opacity is None
        for value, side in enumerate(SIDES, start=1):
            assert bounds(index == value) == well.lungs[side] == ill.lungs[side]
        assert bounds(np.asarray(ill.index) == 3) == ill.opacity.box


def test_the_patients_right_lung_is_at_the_images_left_and_larger(pairs):
    for _, well in pairs:
        right, left = well.lungs["right"], well.lungs["left"]
        assert right.right <= left.left
        assert right.clipped(well.image.size) == right and left.clipped(well.image.size) == left
        index = np.asarray(well.index)
        assert (index == 1).sum() > (index == 2).sum()


def test_the_lungs_are_darker_than_what_lies_between_them(pairs):
    for _, well in pairs:
        grey, index = np.asarray(well.image.convert("L"), int), np.asarray(well.index)
        middle = (well.lungs["right"].right + well.lungs["left"].left) // 2
        row = (well.lungs["right"].top + well.lungs["right"].bottom) // 2
        assert grey[row - 5 : row + 5, middle - 3 : middle + 3].mean() > grey[index > 0].mean() + 20


def test_the_marker_stands_in_the_corner_of_its_side(pairs):
    assert {well.marker for _, well in pairs} == {None, "R", "L"}
    for _, well in pairs:
        grey = np.asarray(well.image.convert("L"))
        height, width = grey.shape
        corners = {"R": grey[: height // 6, : width // 6], "L": grey[: height // 6, -(width // 6) :]}
        if well.marker:
            assert (corners[well.marker] == 235).sum() > 10


def test_half_of_the_phantoms_have_an_opacity_and_every_place_occurs(pairs):
    assert {(ill.opacity.side, ill.opacity.zone) for ill, _ in pairs} == {(s, z) for s in SIDES for z in ZONES}
    rng = np.random.default_rng(0)
    assert 14 <= sum(draw_phantom(rng).opacity is not None for _ in range(50)) <= 36


def test_the_same_seed_draws_the_same_phantom():
    one, two = (draw_phantom(np.random.default_rng(5)) for _ in range(2))
    assert one.opacity == two.opacity and one.lungs == two.lungs and one.marker == two.marker
    assert one.image.tobytes() == two.image.tobytes() and one.index.tobytes() == two.index.tobytes()
