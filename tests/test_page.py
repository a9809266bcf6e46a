"""The page, in a real browser: what a person can do with it, and what stays behind."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from browsing import Opened, answer_of, ask, drag, drawer, drop
from playwright.sync_api import Page, expect
from served import Served, serve

pytest_plugins = ("browsing",)
pytestmark = pytest.mark.browser

EXAMPLE = Path(__file__).parents[1] / "chat" / "ui" / "examples" / "chest.webp"
TOKENS = 16


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("page"), max_new_tokens=TOKENS) as running:
        yield running


def show_image(page: Page) -> None:
    drop(page, EXAMPLE.read_bytes())
    expect(page.locator(".size")).to_have_text("361 × 367")


def show_small_image(page: Page) -> None:
    """One that fits the model's input, so that it is answered without close-ups."""
    data = io.BytesIO()
    tiny.picture(1, (tiny.SIDE, 40)).save(data, "PNG")
    drop(page, data.getvalue())
    expect(page.locator(".size")).to_have_text(f"{tiny.SIDE} × 40")


def test_an_answer_streams_and_stops_and_stays(page: Page, served: Served) -> None:
    show_small_image(page)
    assert served.left_over() == []
    served.engine.pause = 0.5
    ask(page, "Is there an opacity?", wait=False)
    answer = page.locator(".turn[data-state=answering] .answer[data-is-empty=false] p")
    answer.wait_for()
    early = answer.inner_text()
    page.wait_for_function("(early) => document.querySelector('.answer p').textContent.length > early.length", arg=early)
    page.press("#hilum-question", "Escape")
    expect(page.locator(".turn")).to_have_attribute("data-state", "stopped")
    partial = answer_of(page)
    tokens = int(re.search(r"(\d+) tokens$", page.locator(".turn .facts").inner_text()).group(1))  # type: ignore[union-attr]
    assert len(partial) >= len(early) and 0 < tokens < TOKENS
    served.engine.pause = 0
    ask(page, "And now?")
    drawer(page, "The exact prompt")
    assert f"Is there an opacity? ASSISTANT: {partial}" in page.locator(".prompt").inner_text().replace("\xa0", " ")


def test_the_stop_button_stops_too(page: Page, served: Served) -> None:
    show_small_image(page)
    served.engine.pause = 0.5
    ask(page, "Is there an opacity?", wait=False)
    page.locator(".answer[data-is-empty=false]").wait_for()
    page.locator(".send.busy").click()
    expect(page.locator(".turn")).to_have_attribute("data-state", "stopped")


@pytest.mark.slow
def test_close_ups_are_announced_and_can_be_stopped(page: Page, served: Served) -> None:
    show_image(page)
    served.engine.pause = 0.1
    ask(page, "Is there an opacity?", wait=False)
    expect(page.locator(".answer p")).to_have_text("Looking closer… 2/4")
    page.press("#hilum-question", "Escape")
    expect(page.locator(".turn")).to_have_count(0)
    assert page.input_value("#hilum-question") == "Is there an opacity?"


def test_a_follow_up_is_asked_with_its_context(page: Page) -> None:
    show_image(page)
    ask(page, "Is there an opacity?")
    first = answer_of(page)
    ask(page, "Where?")
    drawer(page, "The exact prompt")
    prompt = page.locator(".prompt").inner_text()
    assert prompt.index("<image>") < prompt.index("Is there an opacity?") < prompt.index(first[:8]) < prompt.index("Where?")
    assert re.fullmatch("[0-9a-f]{64}", page.locator(".hash code").inner_text())


def test_the_sixth_turn_pushes_out_the_first(page: Page) -> None:
    show_image(page)
    for number in range(1, 7):
        ask(page, f"Question {number}")
    remembered = [turn.get_attribute("data-remembered") for turn in page.locator(".turn").all()]
    assert remembered == ["false", "true", "true", "true", "true", "true"]
    expect(page.locator(".line:visible")).to_have_text("The model no longer sees what is above this line")
    expect(page.locator(".memory")).to_contain_text("Remembers 5 of 5 turns")
    ask(page, "Question 7")
    drawer(page, "The exact prompt")
    assert re.findall(r"Question \d", page.locator(".prompt").inner_text()) == [f"Question {n}" for n in range(2, 8)]


def test_the_language_switches_and_the_conversation_stays(page: Page) -> None:
    show_image(page)
    ask(page, "Is there an opacity?")
    page.fill("#hilum-question", "not sent yet")
    said = answer_of(page)
    page.get_by_role("button", name="한국어").click()
    expect(page.locator(".memory")).to_contain_text("기억하는 대화 1/5")
    assert page.evaluate("document.documentElement.lang") == "ko"
    shown = page.locator("body").inner_text()
    for korean in ("모델이 본 것", "답변 설정", "되돌리기", "진단하지 않습니다", "토큰/초", "새 이미지"):
        assert korean in shown
    for english in ("What the model saw", "Answer settings", "Undo", "never diagnoses", "tokens/s", "New image"):
        assert english not in shown
    assert answer_of(page) == said and page.input_value("#hilum-question") == "not sent yet"


def test_a_korean_browser_gets_a_korean_page(open_page: Opened) -> None:
    expect(open_page(locale="ko-KR").locator(".drop b")).to_have_text("이미지를 여기에 놓으세요")


def test_a_bad_file_gives_a_sentence_and_keeps_image_and_conversation(page: Page, served: Served) -> None:
    show_image(page)
    ask(page, "Is there an opacity?")
    drop(page, b"these are only words", "words.png")
    expect(page.locator(".stage .trouble")).to_contain_text("not an image that Hilum knows")
    expect(page.locator(".size")).to_have_text("361 × 367")
    ask(page, "Where?")
    assert page.locator(".number").all_inner_texts() == ["1", "2"] and served.left_over() == []


def test_a_question_before_any_image_is_kept_and_explained(page: Page) -> None:
    page.fill("#hilum-question", "Is there an opacity?")
    page.press("#hilum-question", "Enter")
    expect(page.locator(".composer .trouble")).to_contain_text("Add an image first")
    assert page.input_value("#hilum-question") == "Is there an opacity?"


def test_a_question_that_does_not_fit_comes_back_to_the_person(page: Page) -> None:
    show_image(page)
    page.fill("#hilum-question", "why " * 5000)
    page.press("#hilum-question", "Enter")
    expect(page.locator(".composer .trouble")).to_contain_text("Too long")
    expect(page.locator(".turn")).to_have_count(0)
    assert page.input_value("#hilum-question").startswith("why why")


def test_regenerate_edit_undo_and_clear(page: Page, served: Served) -> None:
    def wait_for_the_answer() -> None:
        expect(page.locator(".send")).to_have_class(re.compile("busy"))
        expect(page.locator(".send")).not_to_have_class(re.compile("busy"))

    show_small_image(page)
    served.engine.pause = 0.1
    ask(page, "One?")
    ask(page, "Two?")
    said = answer_of(page)
    page.get_by_role("button", name="Regenerate").click()
    wait_for_the_answer()
    assert answer_of(page) == said and page.locator(".number").all_inner_texts() == ["1", "2"]
    page.get_by_role("button", name="Edit question").click()
    assert page.input_value("#hilum-question") == "Two?"
    page.fill("#hilum-question", "Three?")
    page.press("#hilum-question", "Enter")
    wait_for_the_answer()
    expect(page.locator(".question p")).to_have_text(["One?", "Three?"])
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".question p")).to_have_text(["One?"])
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == answer_of(page)
    page.get_by_role("button", name="Clear conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator(".size")).to_have_text(f"{tiny.SIDE} × 40")


def test_a_dragged_box_is_what_the_model_is_given(page: Page) -> None:
    show_image(page)
    scale = 361 / drag(page, ".canvas", (40, 50), (140, 170))["width"]
    expect(page.locator(".part")).to_be_visible()
    ask(page, "What is here?")
    expect(page.locator(".view b")).to_have_text(["Whole", "Your part"])
    left, right = map(int, re.findall(r"x (\d+)–(\d+)", page.locator(".view span").last.inner_text())[0])
    assert abs(left - 40 * scale) < 3 and abs(right - 140 * scale) < 3
    page.locator(".part button").click()
    expect(page.locator(".part")).to_be_hidden()
    ask(page, "And without it?")
    assert "Your part" not in page.locator(".views").inner_text()


def test_enter_sends_but_not_while_a_syllable_is_composed(page: Page) -> None:
    show_image(page)
    page.fill("#hilum-question", "안녕")
    page.dispatch_event("#hilum-question", "keydown", {"key": "Enter", "isComposing": True})
    page.press("#hilum-question", "Shift+Enter")
    expect(page.locator(".turn")).to_have_count(0)
    assert page.input_value("#hilum-question") == "안녕\n"


def test_an_example_brings_its_questions(page: Page) -> None:
    page.locator(".shelf button").first.click()
    expect(page.locator(".chips button")).to_have_count(3)
    page.locator(".chips button").first.click()
    expect(page.locator(".question p")).to_have_text("Is there an opacity in the lungs?")


def test_what_people_write_is_text_and_never_markup(page: Page) -> None:
    show_image(page)
    ask(page, "<img src=x onerror=\"document.title='broken in'\"><b>bold</b> ${1+1} {{value}}")
    drawer(page, "Memory")
    drawer(page, "The exact prompt")
    assert page.title() == "Hilum" and page.locator(".question b, .turns span b, .prompt b, .question img").count() == 0
    expect(page.locator(".question p")).to_contain_text("${1+1} {{value}}")


def test_two_browsers_do_not_see_each_other(open_page: Opened) -> None:
    mine, yours = open_page(), open_page()
    show_image(mine)
    ask(mine, "Is there an opacity?")
    expect(yours.locator(".drop")).to_be_visible()
    expect(yours.locator(".turn")).to_have_count(0)


def test_leaving_stops_the_work(open_page: Opened, served: Served) -> None:
    page = open_page()
    show_small_image(page)
    served.engine.pause, before = 0.5, served.engine.served
    ask(page, "Is there an opacity?", wait=False)
    page.locator(".answer[data-is-empty=false]").wait_for()
    page.close()
    with served.engine._turnstile.turn():  # whoever had it has left it
        assert 0 < served.engine.served - before < TOKENS


def test_the_page_speaks_to_nobody_else(open_page: Opened, served: Served) -> None:
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.locator("body[data-hilum=open]").wait_for()
    show_image(page)
    ask(page, "Is there an opacity?")
    assert [url for url in asked if not url.startswith((served.url, "data:", "blob:"))] == [] and len(asked) > 5


def test_the_browser_keeps_nothing(page: Page) -> None:
    show_image(page)
    ask(page, "Is there an opacity?")
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert "opacity" not in kept and "private" not in kept
    assert page.evaluate("indexedDB.databases().then((all) => all.length)") == 0


def test_a_phone_has_one_column_and_the_input_within_reach(open_page: Opened) -> None:
    page = open_page(width=390, height=844)
    show_image(page)
    ask(page, "Is there an opacity?")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator(".field").bounding_box()
    assert box is not None and 0 < box["y"] < box["y"] + box["height"] <= 844
    small = [button.get_attribute("aria-label") for button in page.locator(".composer button:visible, .last:visible").all()
             if (size := button.bounding_box()) and min(size["width"], size["height"]) < 40]  # fmt: skip
    assert small == []


def test_dark_is_one_click_away(page: Page) -> None:
    light = page.evaluate("getComputedStyle(document.querySelector('.gradio-container')).backgroundColor")
    page.get_by_role("button", name="Switch to dark").click()
    dark = page.evaluate("getComputedStyle(document.querySelector('.gradio-container')).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", dark))) < 100 < sum(map(int, re.findall(r"\d+", light)))
    expect(page.get_by_role("button", name="Switch to light")).to_be_visible()
