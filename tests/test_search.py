"""Search: every place is covered, equal places are looked at once, and a shape is found whatever its colours and size."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.search_scenes import draw_case, draw_described
from vision.edges import CELL, STRIP, edges, foreground
from vision.matching import SIZES, find_matches
from vision.search import OVERLAP, Hit, detail, distinct, find_colour, merge, plan_search, shared, zoomed
from vision.tiling import Box

SIDE = 336


@settings(max_examples=60)
@given(width=st.integers(1, 4000), height=st.integers(1, 4000), data=st.data())
def test_whatever_is_no_longer_than_the_overlap_stands_whole_in_a_tile_of_every_scale(
    width: int, height: int, data: st.DataObject
) -> None:
    most = int(OVERLAP * SIDE)
    w, h = data.draw(st.integers(1, min(most, width))), data.draw(st.integers(1, min(most, height)))
    left, top = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    for tiles in plan_search((width, height), SIDE):
        assert any(t.left <= left and t.top <= top and left + w <= t.right and top + h <= t.bottom for t in tiles)


def test_a_strip_of_100_000_by_300_is_covered_from_end_to_end() -> None:
    finest = plan_search((100_000, 300), SIDE)[0]
    assert (finest[0].left, finest[-1].right) == (0, 100_000) and {t.size for t in finest} == {(SIDE, 300)}
    assert all(after.left <= before.right - OVERLAP * SIDE for before, after in pairwise(finest))


def test_blank_and_equal_tiles_are_looked_at_once() -> None:
    image = Image.new("RGB", (400, 100), "white")
    patch = Image.effect_noise((100, 100), 60).convert("RGB")
    image.paste(patch, (0, 0))
    image.paste(patch, (200, 0))
    boxes = [Box(x, 0, x + 100, 100) for x in range(0, 400, 100)]
    assert list(distinct(image, boxes)) == boxes[:2]
    busy = detail(image, boxes)
    assert busy[0] == pytest.approx(busy[2], rel=0.2) and busy[0] > 10 * (busy[3] + 0.01)


@settings(max_examples=60)
@given(
    st.integers(-50, 900), st.integers(-50, 900), st.integers(1, 500), st.floats(1, 4), st.integers(8, 900), st.integers(8, 900)
)
def test_a_zoomed_box_stays_in_the_image_and_keeps_what_it_was_made_for(
    x: int, y: int, side: int, factor: float, width: int, height: int
) -> None:
    left, top = max(0, min(x, width - 1)), max(0, min(y, height - 1))
    box = Box(left, top, min(width, left + side), min(height, top + side))
    around = zoomed(box, factor, (width, height))
    assert 0 <= around.left <= box.left and box.right <= around.right <= width
    assert 0 <= around.top <= box.top and box.bottom <= around.bottom <= height


def test_hits_that_overlap_become_the_best_of_them() -> None:
    hits = [Hit(Box(0, 0, 10, 10), 0.5), Hit(Box(3, 3, 13, 13), 0.9), Hit(Box(40, 0, 50, 10), 0.7)]
    assert merge(hits) == [hits[1], hits[2]]
    assert shared(Box(0, 0, 4, 4), Box(4, 0, 8, 4)) == 0 and shared(Box(0, 0, 4, 4), Box(1, 1, 2, 2)) == 1


def test_other_colours_and_inverted_light_leave_the_edges_what_they_were() -> None:
    rng = np.random.default_rng(1)
    figure = np.kron(rng.integers(0, 256, (1, 8, 8, 1)), np.ones((1, 8, 8, 3))).astype(np.uint8)
    assert np.allclose(edges(figure), edges(255 - figure), atol=0.05)


def test_strips_leave_no_seams() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (2, 3 * STRIP + 10, 50, 3), dtype=np.uint8)
    moved = edges(picture[:, 2 * CELL :])
    assert moved.shape == (2, 4, (3 * STRIP + 10) // CELL - 2, 50 // CELL)
    assert torch.equal(edges(picture)[:, :, 4:], moved[:, :, 2:])


def test_margins_and_bars_of_one_colour_are_cut_off_a_reference() -> None:
    reference = Image.new("RGB", (90, 90), "navy")
    reference.paste(Image.effect_noise((40, 50), 80).convert("RGB"), (20, 15))
    reference.paste("red", (70, 0, 90, 90))
    found = foreground(reference).size
    assert abs(found[0] - 40) <= 4 and abs(found[1] - 50) <= 4
    plain = Image.new("RGB", (50, 50), "red")
    assert foreground(plain).size == plain.size


@pytest.mark.parametrize("seed", [0, 4, 5])
def test_the_reference_is_found_though_recoloured_turned_resized_and_drawn_anew(seed: int) -> None:
    case = draw_case(np.random.default_rng([9, seed]), (900, 600), True)
    steps = list(find_matches(case.image, case.reference))
    shares, best = [share for share, _ in steps], steps[-1][1][0].box
    assert shares == sorted(shares) and shares[-1] == 1
    assert case.target is not None and shared(best, case.target) > 0.5


def test_edges_run_alike_where_the_thing_stands_and_seldom_elsewhere() -> None:
    there, elsewhere = [], []
    for seed in (0, 4, 5, 6):
        case = draw_case(np.random.default_rng([9, seed]), (900, 600), True)
        assert case.target is not None
        for place in list(find_matches(case.image, case.reference))[-1][1][:12]:
            (there if shared(place.box, case.target) > 0.5 else elsewhere).append((place.met, place.agreement))
    assert len(there) >= 3 and all(0 <= share <= 1 for shares in there + elsewhere for share in shares)
    assert (np.mean(there, 0) > np.mean(elsewhere, 0) + 0.15).all(), (there, elsewhere)


def test_no_size_crowds_out_the_others() -> None:
    case = draw_case(np.random.default_rng([9, 4]), (640, 480), True)
    *_, (_, places), _ = find_matches(case.image, case.reference, most=2 * len(SIZES))
    count = Counter(max(place.box.size) for place in places)
    assert len(count) >= len(SIZES) - 2 and max(count.values()) <= 2


def test_nothing_is_found_on_a_blank_image_or_for_something_larger_than_it() -> None:
    reference = draw_case(np.random.default_rng(3), (600, 600), True).reference
    assert list(find_matches(Image.new("RGB", (700, 500), "grey"), reference))[-1][1] == []
    assert list(find_matches(Image.new("RGB", (9, 9)), reference.resize((300, 300))))[-1][1] == []


def test_a_named_colour_is_found_among_others() -> None:
    image, text, target = draw_described(np.random.default_rng(5), (900, 600), True, density=20)
    names = {
        "red": (215, 30, 35),
        "green": (35, 155, 60),
        "blue": (35, 85, 215),
        "yellow": (250, 218, 35),
        "purple": (130, 45, 175),
    }
    rgb = names[text.split()[1]]
    patches = find_colour(image, rgb, [other for other in names.values() if other != rgb])
    assert target is not None and any(shared(patch.box, target) > 0.7 for patch in patches)
