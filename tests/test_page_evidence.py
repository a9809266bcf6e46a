"""The evidence on the page, in a real browser with a real classifier: what a person sees of it, decides, and takes along."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tiny
from browsing import Opened, answer_of, ask, drawer, drop
from PIL import Image, ImageChops, ImageFilter
from playwright.sync_api import Page, expect
from served import Served, serve

from chat.assistant import Assistant, Request, RequestError
from chat.engine.base import Sampling
from chat.report.words import NOTICE
from chat.ui.desk import Desk
from chat.ui.evidence_panel import evidence, map_value
from chat.ui.pictures import layers_of
from chat.ui.stage_panel import stage
from chat.ui.windows import ORIGINAL, windows_of
from chat.wording import evidence_lines
from vision.evidence import Heatmap
from vision.examiner import Examiner, load_examiner
from vision.overlay import draw_heatmap
from vision.study import Study, read_study

pytest_plugins = ("browsing",)

EXAMPLES = Path(__file__).parents[1] / "chat" / "ui" / "examples"
PEAK = (0.3, 0.55)
PATIENCE = 60_000
"""Milliseconds for a report of four sections, on a machine that has other things to do."""


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


FILM = png(tiny.film(PEAK))


@pytest.fixture(scope="module")
def examiner(tmp_path_factory: pytest.TempPathFactory) -> Examiner:
    return load_examiner(tiny.build_classifier(tmp_path_factory.mktemp("classifier")))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, examiner: Examiner) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("page"), max_new_tokens=10, examiner=examiner, max_images=3) as running:
        yield running


def show(page: Page, data: bytes = FILM) -> None:
    drop(page, data)
    expect(page.locator(".size")).to_contain_text(" × ".join(map(str, Image.open(io.BytesIO(data)).size)))


def prompt_of(page: Page) -> str:
    return page.locator(".prompt").first.inner_text().replace("\xa0", " ")


def lines_of(page: Page) -> list[str]:
    return page.locator(".lines p").all_inner_texts()


def switch(page: Page, item: str) -> None:
    node = page.locator(f".switch[data-item={item}]")
    before = node.get_attribute("aria-checked")
    node.click()
    expect(node).to_have_attribute("aria-checked", "false" if before == "true" else "true")


browser_test = pytest.mark.browser


@pytest.mark.slow
@browser_test
def test_what_the_panel_says_is_what_the_model_is_told(page: Page, examiner: Examiner) -> None:
    show(page)
    evidence = examiner.examine(read_study(FILM))
    assert lines_of(page) == evidence_lines(evidence, "en") and len(lines_of(page)) >= 3
    percent = round(100 * evidence.probabilities["PNEUMONIA"])
    assert f"{percent}%" in page.locator(".bars [data-in=true]").inner_text()
    drawer(page, "The exact prompt")
    ask(page, "Is there an opacity?")
    assert all(line in prompt_of(page) for line in lines_of(page))
    ask(page, "음영이 있나요?")
    assert lines_of(page) == evidence_lines(evidence, "ko") and lines_of(page)[1] in prompt_of(page)


@pytest.mark.slow
@browser_test
def test_what_is_switched_off_does_not_reach_the_prompt(page: Page) -> None:
    show(page)
    drawer(page, "The exact prompt")
    switch(page, "overlay")
    ask(page, "Is there an opacity?")
    expect(page.locator(".view b").nth(1)).to_have_text("Under the map")
    switch(page, "labels")
    ask(page, "And now?")
    assert "classifier" not in prompt_of(page) and "Attention peaks" in prompt_of(page)
    switch(page, "map")
    expect(page.locator(".lines")).to_have_text("The model is told nothing of the evidence.")
    ask(page, "And now?")
    assert "Hints" not in prompt_of(page) and page.locator(".view b").first.inner_text() == "Whole"
    expect(page.locator(".view[data-kind=overlay]")).to_have_count(0)


def shot(page: Page) -> Image.Image:
    """The picture as it stands on the screen, with what lies over it."""
    return Image.open(io.BytesIO(page.locator(".canvas").screenshot())).convert("RGB")


@browser_test
@pytest.mark.parametrize(("width", "height"), [(1280, 850), (390, 844)])
@pytest.mark.parametrize("size", [(300, 240), (200, 520)])
def test_the_map_lies_where_the_film_is_brightest(
    open_page: Opened, examiner: Examiner, width: int, height: int, size: tuple[int, int]
) -> None:
    page = open_page(width=width, height=height)
    data = png(tiny.film(PEAK, size))
    show(page, data)
    heatmap = examiner.examine(read_study(data)).findings[0].heatmap
    assert heatmap is not None
    page.locator(".maptools .switch").last.click()  # the contour
    page.add_style_tag(
        content="""* { background: #000 !important } .canvas > img:first-child, .marks { visibility: hidden }
        .canvas { border-radius: 0 !important; box-shadow: none !important }"""
    )
    drawn = np.asarray(shot(page).convert("L").filter(ImageFilter.BoxBlur(2)), np.float32)
    assert drawn.max() > 80
    assert np.abs(np.subtract(peak_of(drawn), peak_of(heatmap.at(size)))).max() < 0.02


def peak_of(values: np.ndarray) -> tuple[float, float]:
    """The middle of what is highest in (height, width), as shares of both."""
    rows, columns = np.nonzero(values >= 0.95 * values.max())
    return (rows.mean() + 0.5) / values.shape[0], (columns.mean() + 0.5) / values.shape[1]


@browser_test
def test_opacity_and_contour_ask_nobody(page: Page) -> None:
    show(page)
    plain = shot(page)
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(20):  # what is computed ahead for the new image is asked for a little later
        asked.clear()
        page.wait_for_timeout(1000)
        if not asked:
            break
    slider = page.get_by_role("slider", name="Opacity of the map")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".heat")).to_have_css("opacity", "0")
    outlined = shot(page)
    page.locator(".maptools .switch").last.click()
    expect(page.locator(".contour")).to_be_hidden()
    assert ImageChops.difference(plain, outlined).getbbox() and ImageChops.difference(outlined, shot(page)).getbbox()
    assert asked == []


@pytest.mark.slow
@browser_test
def test_asking_without_the_evidence_shows_both_and_keeps_one(page: Page, served: Served) -> None:
    show(page)
    ask(page, "Is there an opacity?")
    said = answer_of(page)
    page.get_by_role("button", name="Ask without evidence").click()
    expect(page.locator(".aside small")).to_contain_text("Cut here")
    assert answer_of(page) == said and page.locator(".aside p").inner_text() not in ("", said)
    drawer(page, "The exact prompt")
    assert "Hints" in prompt_of(page) and "Hints" not in page.locator(".prompt").last.inner_text()
    ask(page, "And now?")
    assert said in prompt_of(page) and page.locator(".aside p").first.inner_text() not in prompt_of(page)
    served.engine.pause = 1.0
    page.get_by_role("button", name="Ask without evidence").click()
    expect(page.locator(".turn").last.locator(".aside p")).not_to_have_text(re.compile("^(Waiting|Looking|$)"))
    page.locator(".send.busy").click()
    expect(page.locator(".turn").last.locator(".aside small")).to_contain_text("Stopped here")
    expect(page.locator(".turn")).to_have_count(2)


@browser_test
def test_a_window_is_what_the_next_question_sees_and_keeps_the_conversation(page: Page, examiner: Examiner) -> None:
    show(page)
    ask(page, "Is there an opacity?")
    drawer(page, "The exact prompt")
    seen, told = page.locator(".hash code").inner_text(), lines_of(page)
    page.locator(".levels summary").click()
    before = page.locator(".canvas > img").first.get_attribute("src")
    page.locator(".levels .switch").click()
    expect(page.locator(".levels .switch")).to_have_attribute("aria-checked", "true")
    expect(page.locator(".canvas > img").first).not_to_have_attribute("src", str(before))
    center = page.get_by_role("slider", name="Center")
    center.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".presets [aria-pressed=true]")).to_have_count(0)
    ask(page, "And now?")
    assert page.locator(".turn").count() == 2 and page.locator(".hash code").inner_text() != seen
    assert lines_of(page) == told
    page.locator(".levels .switch").click()
    page.locator(".presets button").first.click()
    expect(page.locator(".canvas > img").first).to_have_attribute("src", str(before))


@browser_test
def test_a_picture_in_colour_has_no_window(page: Page) -> None:
    show(page, png(tiny.picture(1)))
    expect(page.locator(".levels")).to_be_hidden()


@browser_test
def test_a_report_has_its_notice_and_goes_into_any_file(page: Page, served: Served) -> None:
    show(page)
    page.get_by_role("button", name="Write a report").click()
    expect(page.locator(".report-page dd").first).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".report-page h3")).to_have_count(4, timeout=PATIENCE)
    expect(page.locator(".notice")).to_have_text(NOTICE["en"])
    starts = {"Markdown": b"# ", "HTML": b"<!", "PDF": b"%PDF-", "JSON": b"{"}
    for name, start in starts.items():
        with page.expect_download() as saved:
            page.get_by_role("button", name=name).click()
        data = saved.value.path().read_bytes()
        assert data.startswith(start) and (name == "PDF" or NOTICE["en"][:20] in data.decode())
    assert len(json.loads(data)["sections"]) == 4 and served.left_over() == []
    page.keyboard.press("Escape")
    expect(page.locator(".report-sheet")).to_be_hidden()
    page.get_by_role("button", name="Show the report").click()
    expect(page.locator(".report-page h3")).to_have_count(4, timeout=PATIENCE)


@pytest.mark.slow
@browser_test
def test_a_report_can_be_stopped_and_says_so(page: Page, served: Served) -> None:
    show(page)
    served.engine.pause = 1
    page.get_by_role("button", name="Write a report").click()
    expect(page.locator(".report-sheet header")).to_contain_text(re.compile("[12]/4"))
    page.locator(".report-sheet header").get_by_role("button", name="Stop").click()
    expect(page.locator(".report-page .note").last).to_contain_text("stopped here")
    assert page.locator(".report-page h3").count() < 4
    served.engine.pause = 0
    page.get_by_role("button", name="Write it again").click()
    expect(page.locator(".report-page h3")).to_have_count(4, timeout=PATIENCE)


@pytest.mark.slow
@browser_test
def test_a_phone_shows_it_all_in_one_column_within_reach(open_page: Opened) -> None:
    page = open_page(locale="ko-KR", width=390, height=844)
    show(page)
    page.locator(".told summary").click()
    page.locator(".levels summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    knobs = page.locator(".evidence .switch, .evidence summary, .map .switch, .map input, .levels :is(summary, .switch, input)")
    assert [size for knob in knobs.all() if (size := knob.bounding_box()) and size["height"] < 40] == []
    page.get_by_role("button", name="보고서 쓰기").click()
    expect(page.locator(".report-page h3")).to_have_count(4, timeout=PATIENCE)
    frame = page.locator(".report-sheet").bounding_box()
    assert frame is not None and frame["width"] <= 390 and frame["height"] <= 844
    assert "모델" in page.locator(".report-page").inner_text()


@browser_test
def test_nothing_moves_when_a_switch_is_turned_or_a_window_changed(page: Page) -> None:
    show(page)
    page.locator(".levels summary").click()

    def offsets() -> list[float]:
        parts = page.locator(".tools, .levels, .evidence, .told, .report-open")
        first, *others = parts.evaluate_all("(parts) => parts.map((part) => part.getBoundingClientRect().y)")
        return [round(top - first) for top in others]

    before = offsets()
    page.locator(".presets button").nth(1).click()
    expect(page.locator(".presets button").nth(1)).to_have_attribute("aria-pressed", "true")
    switch(page, "overlay")
    assert offsets() == before and len(before) == 4


@browser_test
def test_a_crowd_scene_shows_one_quiet_line_that_says_why(page: Page) -> None:
    drop(page, (EXAMPLES / "crowd.png").read_bytes())
    expect(page.locator(".refusal")).to_have_text(
        "No chest X-ray, as far as it can tell, so the classifier was not used: it is in colour."
    )
    for nothing in (".evidence", ".map", ".layer", ".report-open"):
        assert page.locator(f"{nothing}:visible").count() == 0
    ask(page, "Is there a red heart?")
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    expect(page.get_by_role("button", name="Ask without evidence")).to_be_hidden()


def test_outside_the_population_the_panel_says_why_and_offers_nothing(tmp_path: Path) -> None:
    examiner = load_examiner(tiny.build_classifier(tmp_path, population="adult"))
    desk, study = Desk(5, "en"), read_study(FILM)
    desk.place(study, evidence=examiner.examine(study))
    value = evidence(desk, Assistant(cast(Any, None), 0, examiner=examiner))
    assert value["state"] == "withheld" and value["switches"] == [] and len(value["bars"]) == 2
    assert value["note"].endswith("it looks like an adult's film.") and "%" not in "".join(value["told"])
    assert map_value(desk) is None


@browser_test
def test_a_dicom_film_brings_its_windows_and_evidence(page: Page, shared_data: Path) -> None:
    film = next(path for path in sorted((shared_data / "dicom").iterdir()) if path.is_file())
    drop(page, film.read_bytes())
    expect(page.locator(".evidence")).to_be_visible(timeout=PATIENCE)
    page.locator(".levels summary").click()
    assert page.locator(".presets button").count() >= 2


def test_the_first_of_many_frames_is_said_and_one_is_not() -> None:
    desk = Desk(5, "en")
    for frames, said in ((1, ""), (200, "first of 200 frames")):
        desk.place(Study(Image.new("RGB", (20, 20)), frames=frames))
        assert stage(desk)["frames"] == said


def test_the_layers_over_a_film_are_the_overlay_that_the_model_sees() -> None:
    image = tiny.film().convert("RGB")
    heatmap = Heatmap("PNEUMONIA", np.random.default_rng(1).random((5, 7), np.float32))
    for trusted in (True, False):
        heat = _decoded(layers_of(heatmap, image.size, trusted).heat)
        heat.putalpha(heat.getchannel("A").point(lambda alpha: alpha // 2))
        laid = Image.alpha_composite(image.convert("RGBA"), heat).convert("RGB")
        drawn = draw_heatmap(image, heatmap, 0.5, contour=False, trusted=trusted)
        assert np.abs(np.asarray(laid, int) - np.asarray(drawn, int)).max() <= 4


def _decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA")


def test_every_window_offered_can_be_seen_through_and_hostile_numbers_are_pulled_inside() -> None:
    deep = Image.fromarray((np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64))
    for data in (png(deep), FILM):
        windows = windows_of(read_study(data))
        assert windows is not None
        for center, width in windows.presets.values():
            windows.through(center, width, False)
        assert windows.through(*windows.presets[ORIGINAL], False) is windows.original
        for center, width in ((1e300, -5.0), (-1e300, 1e300), (0.0, 0.0)):
            assert windows.through(center, width, True).image.size == windows.original.image.size
        with pytest.raises(ValueError, match="window"):
            windows.through(float("nan"), 100.0, False)
    assert windows_of(read_study(png(tiny.picture(1)))) is None
    assert windows_of(Study(Image.new("RGB", (20, 20)))) is None


def test_a_desk_compares_only_what_evidence_had_a_part_in(examiner: Examiner) -> None:
    desk = Desk(5, "en")
    study = read_study(FILM)
    desk.place(study, evidence=examiner.examine(study))
    with pytest.raises(RequestError, match="without evidence"):
        desk.compare()
    ticket = desk.accept("Why?")
    desk.begin()
    desk.record(ticket, Request("Why?", Sampling(), evidence=frozenset()))
    with pytest.raises(RequestError, match="being answered"):
        desk.compare()
    assert not desk.can_compare(desk.exchanges[-1])
