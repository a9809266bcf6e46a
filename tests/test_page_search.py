"""The search tools, the viewer and the lens: what a person finds in a large image, and what they see of how it was found."""

import hashlib
import io
import re
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from browsing import Opened, ask, drag, drop
from engines import Subject, build
from gradio import EventData
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Page, expect
from served import Served, serve
from test_anomaly import chain, covers

from benchmarks.search_scenes import Case, draw_case
from chat.acceptance import Acceptance
from chat.assistant import Assistant
from chat.engine.base import EngineError
from chat.engine.sight import bounded
from chat.finding import MOST_PASSES, Search, Wanted
from chat.ui.desk import Desk
from chat.ui.lens_panel import exact, eye_of
from chat.ui.lookup import Lookup
from chat.ui.panels import About
from chat.ui.pictures import TILE_BYTES, TILE_OVERLAP, TILE_SIDE, Eye, Pyramid
from chat.ui.search_words import SAID
from chat.ui.searching import Searching
from vision.study import Study
from vision.tiling import Box

pytest_plugins = ("browsing",)

UI = Path(__file__).parents[1] / "chat" / "ui"
LARGE = (1500, 951)
ABOUT = About("tiny", "cpu", "float32", True, 1024)


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=1)
    return data.getvalue()


@pytest.fixture(scope="module")
def case() -> Case:
    return draw_case(np.random.default_rng([9, 4]), LARGE, True)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return build(tmp_path_factory.mktemp("lens"), "float32")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("page"), max_new_tokens=4) as running:
        yield running


def show(page: Page, image: Image.Image) -> None:
    drop(page, png(image))
    expect(page.locator(".size")).to_have_text(" × ".join(f"{side:,}" for side in image.size))


def give(page: Page, reference: Image.Image) -> None:
    page.locator(".search .picker").first.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": png(reference)})


def tell(page: Page, reference: Image.Image | None = None, text: str = "", budget: str = "") -> None:
    """Fill in what to look for, and start."""
    if page.locator(".tool").first.get_attribute("aria-expanded") == "false":
        page.locator(".tool").first.click()
    if reference:
        before = page.locator(".slot img").get_attribute("src")
        give(page, reference)
        page.wait_for_function("(before) => document.querySelector('.slot img').getAttribute('src') !== before", arg=before)
    page.fill(".form input[type=text]", text)
    page.locator(".form input[type=number]").first.fill(budget)
    page.locator(".start").click()


def ended(page: Page, state: str = "done") -> str:
    expect(page.locator(".outcome")).to_have_attribute("data-state", state, timeout=60_000)
    return page.locator(".outcome").inner_text()


@pytest.mark.browser
def test_a_search_is_followed_and_its_hit_is_what_the_next_question_is_asked_with(page: Page, case: Case) -> None:
    assert case.target
    show(page, case.image)
    page.evaluate("""() => {
        window.told = new Set();
        const listen = () => document.querySelectorAll(".outcome b").forEach((each) => window.told.add(each.textContent));
        new MutationObserver(listen).observe(document.body, { subtree: true, childList: true, characterData: true });
    }""")  # it may be over before anyone looks
    tell(page, case.image.crop((case.target.left, case.target.top, case.target.right, case.target.bottom)).resize((60, 66)))
    assert "Places found" in (said := ended(page)) and "Ranked 100 %" in said
    assert any("Ranking the whole image" in told for told in page.evaluate("[...window.told]"))
    chosen = page.locator(".part").inner_text()
    expect(page.locator(".canvas .hit").first).to_be_visible()
    ask(page, "What is this?")
    expect(page.locator(".view b")).to_have_text(["Whole", "Your part"])
    left, right = map(int, re.findall(r"x (\d+)–(\d+)", page.locator(".view span").last.inner_text())[0])
    assert left <= (case.target.left + case.target.right) / 2 < right and str(right - left) in chosen
    expect(page.locator(".view").first.locator("em")).to_contain_text("may be missed here")
    expect(page.locator(".view").last.locator("em")).to_have_count(0)


@pytest.mark.slow
@pytest.mark.browser
def test_the_pixels_in_the_lens_are_those_that_its_hash_says(page: Page, served: Served, case: Case) -> None:
    show(page, case.image)
    ask(page, "What is this?")
    told = page.locator(".view").first.get_attribute("data-sha256")
    shown = page.evaluate("""async () => {
        const image = document.querySelector(".view img");
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
        const pen = canvas.getContext("2d");
        pen.drawImage(image, 0, 0);
        const rgb = pen.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, place) => place % 4 < 3);
        const hash = await crypto.subtle.digest("SHA-256", new Uint8Array(rgb));
        return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    }""")
    processor = served.engine._ready().image_processor
    assert shown == told == source_of(processor, case.image)


@pytest.mark.browser
def test_what_is_not_there_is_not_found_and_says_how_much_was_looked_at(page: Page) -> None:
    absent = draw_case(np.random.default_rng([9, 5]), LARGE, False)
    show(page, absent.image)
    tell(page, absent.reference, budget="6")
    assert re.search(r"Not found[^\0]*Ranked 100 %, asked \d of [\d,]+ tiles in \d looks, at 56 pixels per tile", ended(page))
    expect(page.locator(".canvas .hit")).to_have_count(0)
    expect(page.locator(".part")).to_be_hidden()


@pytest.mark.slow
@pytest.mark.browser
def test_a_long_search_leaves_room_for_a_question_and_can_be_stopped(page: Page, case: Case) -> None:
    show(page, case.image)
    tell(page, text="a zebra", budget="5000")
    expect(page.locator(".canvas .asked").first).to_be_attached()
    ask(page, "What do you see?")
    expect(page.locator(".outcome")).to_have_attribute("data-state", "running")
    page.locator(".outcome .ghost").click()
    said = ended(page, "stopped")
    assert "Stopped. Found so far: 0" in said and int(re.search(r"in ([\d,]+) looks", said)[1].replace(",", "")) < 5000  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.browser
def test_a_new_image_ends_the_search_in_the_old_one(page: Page, case: Case) -> None:
    show(page, case.image)
    tell(page, text="a zebra", budget="5000")
    expect(page.locator(".canvas .asked").first).to_be_attached()
    show(page, tiny.picture(4, (320, 240)))
    expect(page.locator(".outcome")).to_be_hidden()
    expect(page.locator(".canvas .marks > *")).to_have_count(0)
    tell(page, tiny.picture(4, (40, 40)), budget="2")  # the only search place is free again
    ended(page)


@pytest.mark.slow
@pytest.mark.browser
def test_what_cannot_be_searched_is_one_sentence_and_the_form_stays(open_page: Opened, case: Case) -> None:
    page = open_page(locale="ko-KR")
    show(page, tiny.picture(2, (300, 200)))
    trouble = page.locator(".search .trouble")
    for wrong, sentence in (
        ({}, "찾을 것이 없습니다"),
        ({"text": "별이", "budget": "0"}, "횟수가 0입니다"),
        ({"text": "별이", "budget": "-3"}, "읽을 수 없습니다"),
        ({"reference": Image.new("RGB", (60, 60), "red")}, "한 가지 색"),
        ({"reference": tiny.picture(1, (700, 90))}, "이미지보다 큽니다"),
    ):
        tell(page, **wrong)  # type: ignore[arg-type]
        expect(trouble).to_contain_text(sentence)
        expect(page.locator(".start")).to_be_visible()
    give(page, tiny.picture(1, (4, 4)))
    expect(trouble).to_contain_text("4 × 4")
    page.get_by_role("button", name="기준 그림 빼기").click()
    expect(page.locator(".slot img")).to_be_hidden()


@pytest.mark.browser
def test_the_odd_part_of_a_row_is_shown_and_asked_about(page: Page) -> None:
    image, gap = chain(1, 8)
    show(page, image)
    page.locator(".tool").nth(1).click()
    assert "Places that look odd" in ended(page)
    page.locator(".hits button").first.click()
    expect(page.locator(".part")).to_be_visible()
    ask(page, "What is wrong here?")
    left, right, top, bottom = map(int, re.findall(r"\d+", page.locator(".view span").last.inner_text()))
    assert covers(Box(left, top, right, bottom), gap)
    show(page, tiny.picture(5, (300, 200)))
    page.locator(".tool").nth(1).click()
    assert "Nothing repeats" in ended(page)


@pytest.mark.slow
@pytest.mark.browser
def test_normal_images_are_given_counted_and_left_out(page: Page) -> None:
    show(page, chain(1, 8)[0])
    give, remove = page.get_by_role("button", name="Compare"), page.get_by_role("button", name="Leave out the normal images")
    expect(remove).to_be_hidden()
    normal = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": png(chain(n, None)[0])} for n in (20, 21)]
    page.locator(".search .picker").nth(1).set_input_files(normal)  # type: ignore[arg-type]
    expect(give).to_have_text("Compared with normal images: 2")
    page.locator(".tool").nth(1).click()
    assert "Places that look odd" in ended(page)
    remove.click()
    expect(give).to_have_text("Compare with normal images")


@pytest.mark.slow
@pytest.mark.browser
def test_seconds_are_a_budget_too(page: Page, case: Case) -> None:
    show(page, case.image)
    page.locator(".tool").first.click()
    page.fill(".form input[type=text]", "a zebra")
    page.locator(".form input[type=number]").nth(1).fill("2.5")
    page.locator(".start").click()
    expect(page.locator(".outcome b")).to_contain_text("looks in")
    assert "Not found within the budget" in ended(page)


@pytest.mark.slow
@pytest.mark.browser
def test_a_dragged_part_becomes_the_reference(page: Page, case: Case) -> None:
    show(page, case.image)
    page.locator(".tool").first.click()
    expect(page.get_by_role("button", name="Use your part of the image")).to_be_hidden()
    drag(page, ".canvas", (40, 50), (90, 90))
    page.get_by_role("button", name="Use your part of the image").click()
    expect(page.locator(".slot img")).to_be_visible()


@pytest.mark.browser
def test_the_viewer_comes_with_a_large_image_and_a_part_of_it_is_chosen_to_the_pixel(page: Page, case: Case) -> None:
    show(page, tiny.picture(2, (300, 200)))
    expect(page.get_by_role("button", name="Look closer")).to_be_hidden()
    show(page, case.image)
    assert page.evaluate("window.OpenSeadragon === undefined")
    page.get_by_role("button", name="Look closer").click()
    expect(page.locator(".viewer .waiting")).to_be_hidden()
    page.get_by_role("button", name="Drag to choose").click()
    cover = drag(page, ".cover", (500, 300), (600, 350))
    expect(page.locator(".viewer header")).to_contain_text("This part is chosen")
    page.keyboard.press("Escape")
    scale = max(LARGE[0] / cover["width"], LARGE[1] / cover["height"])  # the whole image, fitted
    expect(page.locator(".part")).to_contain_text("×")  # the server has been told by then
    width, height = map(int, re.findall(r"(\d+) × (\d+)", page.locator(".part").inner_text())[0])
    assert abs(width - 100 * scale) <= 2 and abs(height - 50 * scale) <= 2
    assert page.locator(".viewer .openseadragon-canvas").count() == 0, "a closed viewer keeps nothing"


def test_both_languages_say_the_same_and_everything_that_is_said_is_there() -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    assert SAID["ko"].keys() == SAID["en"].keys()
    assert [key for key in SAID["ko"] if fields(SAID["ko"][key]) != fields(SAID["en"][key])] == []
    korean = [key for key, text in SAID["ko"].items() if re.search("[가-힣]", text)]
    assert set(SAID["ko"]) - set(korean) == {"chance"} and not re.search("[가-힣]", " ".join(SAID["en"].values()))
    speakers = ("search_panel.py", "lens_panel.py", "search.js", "viewer.js")
    code = "\n".join((UI / name).read_text("utf-8") for name in speakers)
    asked = set(re.findall(r"""said(?:\.|\(["'])([a-z_]+)""", code))
    assert asked <= SAID["en"].keys()
    assert [key for key in SAID["en"] if not re.search(rf"""["'.]{key}\b""", code)] == []


def source_of(processor: Any, image: Image.Image) -> str:
    """The SHA-256 of the 8-bit pixels that the real tensor comes from: the tensor, its normalisation undone."""
    tensor = processor(images=[bounded(image)], return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    pixels = (tensor * np.array(processor.image_std) + np.array(processor.image_mean)) / processor.rescale_factor
    assert np.abs(pixels - np.rint(pixels)).max() < 0.01
    return hashlib.sha256(np.rint(pixels).astype(np.uint8).tobytes()).hexdigest()


@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), seed=st.integers(0, 9))
@settings(max_examples=25)
def test_the_lens_shows_the_very_pixels_of_the_tensor(subject: Subject, size: tuple[int, int], seed: int) -> None:
    picture, processor = tiny.picture(seed, size), subject.loaded.image_processor
    glimpse = eye_of(Assistant(subject.engine, tiny.SIDE)).glimpse(picture)
    assert glimpse and glimpse.side == tiny.SIDE
    assert hashlib.sha256(exact(processor, picture).tobytes()).hexdigest() == glimpse.sha256 == source_of(processor, picture)


def test_an_eye_forgets_what_was_shown_to_another_session() -> None:
    eye = Eye(8, 2.0, lambda image: image)
    picture = tiny.picture(1, (8, 8))
    assert eye.glimpse(picture) is eye.glimpse(picture) and eye.another().glimpse(picture) is not eye.glimpse(picture)


@given(size=st.tuples(st.integers(160, 2600), st.integers(160, 700)))
@settings(max_examples=12)
def test_tiles_cover_every_level_and_the_finest_is_the_image_itself(size: tuple[int, int]) -> None:
    image = tiny.picture(3, size)
    pyramid = Pyramid(image)
    for level in range(pyramid.levels + 1):
        step = 1 << (pyramid.levels - level)
        width, height = (ceil(side / step) for side in size)
        columns, rows = ceil(width / TILE_SIDE), ceil(height / TILE_SIDE)
        shown = [Image.open(io.BytesIO(pyramid.tile(level, column, 0))) for column in range(columns)]
        assert sum(tile.width for tile in shown) == width + 2 * TILE_OVERLAP * (columns - 1)
        with pytest.raises(ValueError, match="no tile"):
            pyramid.tile(level, columns, rows - 1)
    finest = np.asarray(Image.open(io.BytesIO(pyramid.tile(pyramid.levels, 0, 0))), np.float32)
    assert np.abs(finest - np.asarray(image, np.float32)[: finest.shape[0], : finest.shape[1]]).mean() < 12
    with pytest.raises(ValueError, match="level"):
        pyramid.tile(pyramid.levels + 1, 0, 0)


def test_what_is_kept_of_a_large_image_is_bounded() -> None:
    rng = np.random.default_rng(0)
    pyramid = Pyramid(Image.fromarray(rng.integers(0, 256, (4000, 6000, 3), dtype=np.uint8)))
    sizes = [len(pyramid.tile(pyramid.levels, column, row)) for column in range(12) for row in range(8)]
    assert sum(sizes) > TILE_BYTES >= sum(map(len, pyramid._kept.values()))


def searching(engine: Any, side: int = tiny.SIDE) -> Searching:
    return Searching(Assistant(engine, side), ABOUT, Acceptance(), 4_000_000)


def event(**data: object) -> EventData:
    return EventData(None, data)


def test_tiles_go_to_who_has_the_key_and_end_with_the_image(subject: Subject) -> None:
    tools, desk = searching(subject.engine), Desk(5, "en")
    tile, library = tools.served()
    desk.place(Study(tiny.picture(1, (1400, 90))))
    key = tools.look_into(desk)["key"]
    assert tile([key, 0, 0, 0]) and tile(["0" * 32, 0, 0, 0]) == tile([key, 99, 0, 0]) == tile([]) == tile(None) == ""  # type: ignore[list-item]
    assert len(library()) > 100_000
    desk.place(Study(tiny.picture(2, (1400, 90))))
    assert tile([key, 0, 0, 0]) == "" and tools.look_into(desk)["key"] != key


def test_an_engine_in_words_says_so_and_one_that_fails_gives_a_sentence(subject: Subject) -> None:
    def fail(*_: object) -> Iterator[Any]:
        raise EngineError("gone")

    for stream, shown in ((subject.engine.stream, SAID["en"]["in_words"]), (fail, "The model could not answer")):
        face = SimpleNamespace(name="x", limits=subject.engine.limits, stream=stream, forget=subject.engine.forget)
        tools, desk = searching(face), Desk(5, "en")
        desk.place(Study(tiny.picture(1, (200, 150))))
        _, waiting = tools.accept(desk, event(kind="find", text="a thing", budget="3"))
        assert waiting["state"] == "waiting"
        value = [drawing[0] for drawing in tools.run(desk)][-1]
        assert shown in " ".join([*value["notes"], value["trouble"]]) and not desk.lookup.is_busy


@pytest.mark.slow
def test_normal_images_stay_for_the_next_inspection_and_go_with_the_image(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "owner").mkdir()
    tools, desk, image = searching(subject.engine), Desk(5, "en"), chain(1, 8)[0]

    def give_normals(*images: Image.Image) -> dict[str, Any]:
        paths = [tmp_path / "owner" / str(number) for number in range(len(images))]
        for path, normal in zip(paths, images, strict=True):
            path.write_bytes(png(normal))
        return tools.refer(desk, event(kind="normals", paths=[str(path) for path in paths]))

    def boxes() -> list[Any]:
        desk.place(Study(image))
        tools.accept(desk, event(kind="defect"))
        list(tools.run(desk))
        return [hit.box for hit in desk.lookup.hits]

    alone = boxes()
    assert give_normals(*(chain(seed, None)[0] for seed in (20, 21)))["normals"]["count"] == 2
    assert list((tmp_path / "owner").iterdir()) == [] and (compared := boxes()) != alone
    refused = give_normals(Image.new("RGB", (300, 300)))
    assert "Nothing repeats in the normal images" in refused["trouble"] and refused["normals"]["count"] == 2
    assert boxes() == compared and "1 to 12" in give_normals()["trouble"]
    assert tools.refer(desk, event(kind="no_normals"))["normals"]["count"] == 0 and boxes() == alone
    give_normals(chain(20, None)[0])
    desk.place(None)
    assert tools.draw_both(desk)[0]["normals"]["count"] == 0


def test_a_budget_of_seconds_is_told_as_seconds(subject: Subject) -> None:
    tools, desk = searching(subject.engine), Desk(5, "en")
    desk.place(Study(tiny.picture(1, (400, 300))))
    tools.accept(desk, event(kind="find", text="a thing", budget="9 60s"))
    assert desk.lookup.wanted and (desk.lookup.wanted.passes, desk.lookup.wanted.seconds) == (9, 60.0)
    wanted, found = Wanted(text="a", passes=MOST_PASSES, seconds=60.0), Search(passes=7, ranked=1.0, seconds=30.0)
    desk.lookup = Lookup("running", wanted, desk.study, found)
    value = tools.draw(desk)
    assert "7 looks in 30 s" in value["verdict"] and value["progress"] == pytest.approx(1 / 3 + 2 / 3 * 30 / 60)


def test_a_reference_stays_for_the_next_image_and_goes_with_the_last(subject: Subject) -> None:
    tools, desk = searching(subject.engine), Desk(5, "en")
    desk.place(Study(tiny.picture(1, (200, 150))))
    desk.choose(Box(10, 10, 60, 50))
    assert tools.refer(desk, event(kind="region"))["reference"]
    desk.place(Study(tiny.picture(2, (200, 150))))
    assert desk.reference is not None and desk.reference.size == (50, 40)
    desk.place(None)
    assert desk.reference is None
