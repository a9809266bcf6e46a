"""Scenes say the truth about themselves."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest

from finetune.easel import COLOURS, EXTENT, WORDS
from finetune.figures import draw_hunt
from finetune.outlines import SHAPES
from finetune.references import draw_part
from finetune.scenes import HELD_OUT, Scene, draw_crowd, draw_scene
from vision.tiling import Box


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(np.random.default_rng(seed), held_out=seed % 5 == 0) for seed in range(200)]


def ink(scene: Scene, value: int) -> Box:
    return Box(*scene.index.point([255 * (v == value) for v in range(256)]).getbbox())


def things(scene: Scene) -> list[Box]:
    return [item.box for item in scene.items] + ([scene.lettering.box] if scene.lettering else [])


def test_everything_lies_whole_inside(scenes):
    for scene in scenes:
        for box in things(scene):
            assert box.clipped(scene.image.size) == box


def test_no_two_things_come_nearer_than_four_pixels_of_336(scenes):
    for scene in scenes:
        for one, other in combinations(things(scene), 2):
            across = max(one.left - other.right, other.left - one.right)
            down = max(one.top - other.bottom, other.top - one.bottom)
            assert max(across, down) * 336 / max(scene.image.size) >= 4


def test_no_scene_is_empty_and_none_has_more_than_seven_items(scenes):
    for scene in scenes:
        assert things(scene) and len(scene.items) <= 7


def test_training_scenes_never_hold_a_held_out_pair(scenes):
    rng = np.random.default_rng(7)
    for _ in range(400):
        assert not HELD_OUT & {(item.colour, item.kind) for item in draw_scene(rng).items}


def test_held_out_scenes_always_hold_a_held_out_pair(scenes):
    for scene in scenes[::5]:
        assert HELD_OUT & {(item.colour, item.kind) for item in scene.items}


def test_the_index_agrees_with_the_boxes(scenes):
    for scene in scenes:
        assert scene.index.size == scene.image.size
        letters = scene.lettering.letters if scene.lettering else ()
        values = [i + 1 for i in range(len(scene.items))] + [101 + j for j in range(len(letters))]
        assert set(np.unique(scene.index)) - {0} == set(values)
        for value, box in zip(values, [item.box for item in scene.items] + list(letters), strict=True):
            assert ink(scene, value) == box


def test_the_size_words_agree_with_the_measured_sizes(scenes):
    for scene in scenes:
        for item in scene.items:
            low, high = EXTENT[item.size]
            assert low - 0.012 < max(item.box.size) / max(scene.image.size) < high + 0.008


def test_letters_stand_in_order_in_their_line_and_are_large(scenes):
    lines = [(scene, scene.lettering) for scene in scenes if scene.lettering]
    assert 25 <= len(lines) <= 75
    for scene, line in lines:
        assert line.text in WORDS or (line.text.isdigit() and len(line.text) <= 3)
        assert len(line.letters) == len(line.text)
        assert all(a.right < b.left for a, b in zip(line.letters, line.letters[1:], strict=False))
        assert min(box.size[1] for box in line.letters) >= 0.1 * max(scene.image.size)


def test_all_ink_of_a_line_lies_in_its_letters_boxes():
    """Around a line, the paper is as it is elsewhere: no stray stroke outside the boxes."""
    seen = 0
    for seed in range(400):
        scene = draw_scene(np.random.default_rng(seed))
        if scene.lettering is None or scene.items:
            continue
        seen += 1
        pixels, bare = np.asarray(scene.image, int), np.asarray(scene.index) == 0
        paper = np.median(pixels[bare], axis=0)
        assert np.abs(pixels[bare] - paper).max() < 50
        assert np.abs(pixels[~bare] - paper).max() > 70
    assert seen >= 5


def test_an_items_middle_colour_differs_from_the_paper(scenes):
    for scene in scenes:
        pixels, index = np.asarray(scene.image, int), np.asarray(scene.index)
        paper = np.median(pixels[index == 0], axis=0)
        for i in range(len(scene.items)):
            assert np.linalg.norm(np.median(pixels[index == i + 1], axis=0) - paper) > 90


def test_two_fifths_of_the_scenes_repeat_a_pair(scenes):
    repeats = sum(len({(i.colour, i.kind) for i in s.items}) < len(s.items) for s in scenes)
    assert 0.3 < repeats / len(scenes) < 0.6
    assert {item.kind for scene in scenes for item in scene.items} == set(SHAPES)


def test_the_same_seed_draws_the_same_scene():
    one, two = (draw_scene(np.random.default_rng(3)) for _ in range(2))
    assert one.items == two.items and one.lettering == two.lettering
    assert one.image.tobytes() == two.image.tobytes() and one.index.tobytes() == two.index.tobytes()


@pytest.mark.parametrize("draw", [partial(draw_scene, apart=1.0), partial(draw_crowd, apart=1.0, lettered=0.0)])
def test_what_is_taken_apart_has_a_named_shape_or_a_named_colour_and_never_a_pair_that_is_held_out(draw):
    for seed in range(40):
        scene = draw(np.random.default_rng([9, seed]))
        pixels, index = np.asarray(scene.image, int), np.asarray(scene.index)
        for number, item in enumerate(scene.items, 1):
            assert bool(item.kind) != bool(item.colour)
            paint = np.median(pixels[index == number], axis=0)
            nearest = min(COLOURS, key=lambda name: np.linalg.norm(np.subtract(COLOURS[name], paint)))
            assert nearest == item.colour if item.colour else (nearest, item.kind) not in HELD_OUT


def test_a_hunted_figure_is_marked_where_it_stands_and_nothing_is_marked_where_it_does_not():
    found = [draw_hunt(np.random.default_rng([4, seed])) for seed in range(60)]
    assert 0.3 < np.mean([there for *_, there in found]) < 0.6
    for shown, paper, index, there in found:
        marked = np.asarray(index) == 1
        assert paper.size == index.size and min(shown.size) >= 10
        assert (marked.mean() > 0.004) if there else not marked.any()


def test_a_part_of_a_crowd_keeps_the_items_of_which_most_is_in_it():
    for seed in range(30):
        part = draw_part(np.random.default_rng([4, seed]))
        index = np.asarray(part.index)
        assert set(np.unique(index)) <= {*range(len(part.items) + 1)}
        for number, item in enumerate(part.items, 1):
            rows, columns = np.nonzero(index == number)
            box = item.box
            assert box.left <= columns.min() and columns.max() < box.right and box.top <= rows.min() and rows.max() < box.bottom
