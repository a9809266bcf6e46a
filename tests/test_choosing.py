"""Choosing: a question that singles out a few places is shown them large; any other is shown the whole image, evenly."""

import gc
from dataclasses import replace
from math import cos, pi, sin

import pytest
import tiny
from engines import build
from PIL import Image, ImageDraw

from chat.assistant import Assistant, Request
from chat.choosing import close_ups, find_named
from chat.engine.local import LocalEngine
from vision import once
from vision.search import shared
from vision.study import Study
from vision.tiling import Box, even_tiles

SIZE, SIDE = (3000, 1900), 336
RED, BLUE = (205, 38, 44), (44, 92, 200)


def scene(*things: tuple[tuple[int, int], tuple[int, int, int]], ground: str = "lightgrey") -> Image.Image:
    """Discs of 40 pixels on a plain ground, at their centres."""
    image = Image.new("RGB", SIZE, ground)
    for (x, y), colour in things:
        ImageDraw.Draw(image).ellipse((x - 20, y - 20, x + 20, y + 20), fill=colour)
    return image


def shows(crops: list[Box], x: int, y: int) -> bool:
    return any(c.left <= x - 20 and c.top <= y - 20 and x + 20 <= c.right and y + 20 <= c.bottom for c in crops)


@pytest.mark.parametrize(
    ("text", "first"),
    [("a red square", 0), ("a red triangle", 2), ("빨간 세모", 2), ("빨간 별이", 3), ("a red thing to start with", 0)],
)
def test_where_a_plain_shape_is_named_what_fills_its_box_like_it_comes_first(text: str, first: int) -> None:
    image = Image.new("RGB", SIZE, "lightgrey")
    pen, corners = ImageDraw.Draw(image), []
    for number in range(4):
        centre = (400 + 700 * number, 800)
        corners.append(Box(centre[0] - 45, centre[1] - 45, centre[0] + 45, centre[1] + 45))
        if number == 3:
            turns = [2 * pi * k / 10 - pi / 2 for k in range(10)]
            radii = [40, 17] * 5
            pen.polygon([(centre[0] + r * cos(a), centre[1] + r * sin(a)) for r, a in zip(radii, turns, strict=True)], RED)
        elif number == 1:
            pen.ellipse((centre[0] - 40, centre[1] - 40, centre[0] + 40, centre[1] + 40), RED)
        else:
            pen.regular_polygon((*centre, 40), 4 if number == 0 else 3, fill=RED, rotation=6)
    assert shared(find_named(image, text)[0].box, corners[first]) > 0.9


@pytest.mark.parametrize("question", ["What is left of the red disc?", "빨간 원 옆에 무엇이 있나요?"])
def test_the_few_things_of_the_named_colour_are_shown_pixel_for_pixel(question: str) -> None:
    blue = [((200 + 250 * number, 1500), BLUE) for number in range(9)]
    crops = close_ups(scene(((420, 300), RED), ((2800, 400), RED), *blue), question, 4, SIDE)
    assert len(crops) == 2 and shows(crops, 420, 300) and shows(crops, 2800, 400)
    assert all(crop.size == (SIDE, SIDE) and crop.clipped(SIZE) == crop for crop in crops)


def test_things_that_stand_together_share_a_crop() -> None:
    crops = close_ups(scene(((500, 500), RED), ((580, 540), RED)), "Which red disc is higher?", 4, SIDE)
    assert len(crops) == 1 and shows(crops, 500, 500) and shows(crops, 580, 540)


def test_a_question_that_names_no_colour_is_shown_what_stands_on_a_plain_ground() -> None:
    crops = close_ups(scene(((700, 300), RED), ((2000, 1500), BLUE)), "What is there?", 4, SIDE)
    assert len(crops) == 2 and shows(crops, 700, 300) and shows(crops, 2000, 1500)


def test_more_places_than_crops_are_shown_evenly() -> None:
    image = scene(*(((200 + 500 * number, 900), RED) for number in range(5)))
    assert close_ups(image, "How many red discs?", 4, SIDE) == even_tiles(SIZE, 4)
    assert close_ups(image, "How many red discs?", 0, SIDE) == []


def test_a_grey_picture_with_a_white_marker_is_shown_evenly() -> None:
    film = scene(((100, 100), (255, 255, 255)), ground="black")
    assert close_ups(film, "Is there a white shadow?", 4, SIDE) == even_tiles(SIZE, 4)


def test_a_photograph_without_a_plain_ground_is_shown_evenly() -> None:
    photo = Image.effect_noise(SIZE, 60).convert("RGB")
    photo.paste(scene(((50, 50), RED)).crop((0, 0, 100, 100)), (900, 900))
    assert close_ups(photo, "What is there?", 4, SIDE) == even_tiles(SIZE, 4)


@pytest.mark.parametrize(
    "image", [Image.new("RGB", SIZE, "red"), Image.new("RGB", (3000, 9), "red"), Image.new("RGB", (1, 900))]
)
def test_a_blank_or_narrow_image_is_shown_evenly(image: Image.Image) -> None:
    assert close_ups(image, "What is red?", 4, SIDE) == even_tiles(image.size, 4)


def test_an_image_is_looked_through_once_and_nothing_stays_of_it() -> None:
    image = scene(((420, 300), RED))
    place, number = id(image), len(once._kept)
    first = find_named(image, "a red disc")
    assert first and find_named(image, "is it red?")[0] is first[0] and place in once._kept
    del image
    gc.collect()
    assert len(once._kept) <= number


def test_the_views_of_a_question_are_those_that_it_singles_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    loaded = replace(build(tmp_path_factory.mktemp("views"), "float32").loaded, max_images=5)
    assistant = Assistant(LocalEngine(loaded), tiny.SIDE)
    study = Study(scene(((420, 300), RED), *(((200 + 250 * number, 1500), BLUE) for number in range(9))))
    (overview, *named), (_, *even) = (assistant.views(study, Request(text)) for text in ("Is the red one round?", "Where?"))
    assert overview.box == study.box and [view.kind for view in named] == ["tile"]
    assert shows([view.box for view in named], 420, 300) and max(named[0].image.size) < min(even[0].image.size)
    assert [view.box for view in assistant.views(study, Request("Is the red one round?", crops=False))] == [study.box]
