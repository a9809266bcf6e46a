"""An adapter on the page and behind /ask: which of the two answers, both side by side; and a report that stays pinned."""

import io
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
import tiny
from browsing import Opened, answer_of, ask, drawer, drop
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Page, expect
from served import Served, UnhurriedEngine, build_checkpoint, free_port

from chat.assistant import Answer, Assistant, RequestError
from chat.engine.base import Sampling
from chat.loading import open_assistant
from chat.pair import Paired, leader, leads, speaker
from chat.settings import Settings
from chat.ui.asked import seeded
from chat.ui.desk import Desk
from chat.ui.handlers import Handlers
from chat.ui.panels import About, talk
from finetune import lora
from finetune.rehearsal import draw_records
from vision.study import read_study

pytest_plugins = ("browsing",)

BASE, TAUGHT = "tiny-base", "tiny-base-radiology"
REPORT = "IMPRESSION: No <image> pneumonia. </s> 폐렴 없음."
SAMPLING = Sampling(10, temperature=0.7, top_p=1.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pair") / "models"


@pytest.fixture(scope="module")
def pair(models: Path) -> Paired:
    """A tiny base, and an adapter that a real training has made."""
    base, taught = build_checkpoint(models / BASE), models / TAUGHT
    records = draw_records(models.parent / "scenes", 8)
    rates = ("--learning_rate", "5e-2", "--lora_r", "4", "--num_train_epochs", "3", "--per_device_train_batch_size", "4")
    named = ("--model_name_or_path", base, "--data_path", records, "--output_dir", taught)
    assert lora.main([str(word) for word in (*named, *rates)]) == 0
    assistant = open_assistant(Settings(model=str(base), adapter=str(taught), classifier="none"))
    assert isinstance(assistant, Paired)
    return assistant


@pytest.fixture(scope="module")
def served(pair: Paired, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Its page, which samples without a seed."""
    from chat.ui import page

    uploads = tmp_path_factory.mktemp("uploads")
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    blocks = page.build(pair, about(pair), SAMPLING, None, 1_000_000)
    try:
        yield Served(page.launch(blocks, "127.0.0.1", free_port()), cast(UnhurriedEngine, pair.engine), uploads)
    finally:
        blocks.close(verbose=False)
        del os.environ["GRADIO_TEMP_DIR"]


def about(pair: Paired) -> About:
    return About(pair.engine.name, "cpu", "float32", False, pair.engine.limits.context_tokens)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    tiny.picture(1, (tiny.SIDE, 40)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def show(page: Page) -> None:
    data = io.BytesIO()
    tiny.picture(1, (tiny.SIDE, 40)).save(data, "PNG")
    drop(page, data.getvalue())
    expect(page.locator(".size")).to_have_text(f"{tiny.SIDE} × 40")


def say(page: Page, question: str) -> None:
    """Ask, and wait until it is answered, to the end or to the limit."""
    ask(page, question, wait=False)
    expect(page.locator(".turn").last).to_have_attribute("data-state", re.compile("cut|done"))
    expect(page.locator(".send")).not_to_have_class(re.compile("busy"))


def choose(page: Page, name: str) -> None:
    page.locator(".voices").get_by_role("button", name=name, exact=True).click()
    expect(page.locator(".voices [aria-pressed=true]")).to_have_text(name)


def pin(page: Page, text: str) -> None:
    if not page.locator(".pin textarea").is_visible():
        page.locator(".pin summary").click()
    page.fill(".pin textarea", text)


def prompt_of(page: Page) -> str:
    return page.locator(".prompt").first.inner_text().replace("\xa0", " ")


@pytest.mark.slow
@pytest.mark.browser
def test_the_one_that_is_chosen_answers_and_says_its_name(page: Page) -> None:
    show(page)
    expect(page.locator(".voices button")).to_have_text([BASE, TAUGHT])
    page.locator(".drawer .label-wrap", has_text="Answer settings").click()
    page.get_by_label("Seed").fill("7")
    say(page, "Is there an opacity?")
    choose(page, BASE)
    page.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".tail .facts")).to_contain_text(re.compile(rf"{BASE}(?!-)"))
    by_base = answer_of(page)
    choose(page, TAUGHT)
    page.get_by_role("button", name="Regenerate").click()
    expect(page.locator(".tail .facts")).to_contain_text(TAUGHT)
    expect(page.locator(".send")).not_to_have_class(re.compile("busy"))
    assert answer_of(page) != by_base


@pytest.mark.browser
def test_both_side_by_side_leave_one_turn(page: Page) -> None:
    show(page)
    say(page, "Is there an opacity?")
    said = answer_of(page)
    page.get_by_role("button", name="Both models side by side").click()
    expect(page.locator(".aside")).to_have_attribute("data-is-empty", "false")
    expect(page.locator(".send")).not_to_have_class(re.compile("busy"))
    assert page.locator(".pair b").all_inner_texts() == [TAUGHT, BASE]
    beside = page.locator(".aside p").inner_text()
    assert beside not in ("", said) and answer_of(page) == said
    expect(page.locator(".memory")).to_contain_text("Remembers 1 of 5 turns")
    say(page, "And now?")
    drawer(page, "The exact prompt")
    assert prompt_of(page).count("ASSISTANT:") == 2


@pytest.mark.parametrize("is_adapted", [True, False])
def test_the_other_is_asked_the_same_with_the_same_seed(is_adapted: bool, pair: Paired, picture: Path) -> None:
    desk, handlers = Desk(5, "en"), Handlers(pair, about(pair), "en", 1_000_000)
    desk.place(read_study(picture.read_bytes()))
    desk.is_adapted = is_adapted
    controls = (1.5, 1.0, 10, "", True, "A chat.")
    for question in ("Is there an opacity?", "Where?"):
        desk.accept(question)
        list(handlers.answer(desk, *controls))
    before = desk.conversation
    desk.compare("model")
    list(handlers.answer(desk, *controls))
    exchange = desk.exchanges[-1]
    assert exchange.request and exchange.answer and exchange.aside and exchange.aside.answer
    other = pair.base if is_adapted else Assistant(pair.engine, pair.input_side)
    *_, alone = other.ask(exchange.request, desk.study, exchange.before, "alone")
    assert isinstance(alone, Answer) and exchange.request.sampling.seed is not None
    assert exchange.aside.answer.text == alone.text and exchange.aside.answer.prompt_hash == exchange.answer.prompt_hash
    assert desk.conversation is before and len(desk.exchanges) == 2
    *_, again = speaker(pair, is_adapted).ask(exchange.request, desk.study, exchange.before, "again")
    assert isinstance(again, Answer) and again.text == exchange.answer.text


@pytest.mark.slow
@pytest.mark.browser
def test_a_pinned_report_outlives_the_turns_and_leaves_with_the_conversation(page: Page) -> None:
    show(page)
    say(page, "Question 0")
    without = int(re.sub(r"\D", "", page.locator(".tokens").inner_text().partition("/")[0]))
    page.get_by_role("button", name="Undo").click()
    drawer(page, "The exact prompt")
    pin(page, REPORT)
    for number in range(7):
        say(page, f"Question {number}")
        assert f"\n\nReport:\n{REPORT} USER: <image>" in prompt_of(page)
        if not number:
            assert int(re.sub(r"\D", "", page.locator(".tokens").inner_text().partition("/")[0])) > without
    assert "Question 0" not in prompt_of(page)
    expect(page.locator(".pin summary")).to_have_text("Pinned report")
    page.get_by_role("button", name="한국어").click()
    expect(page.locator(".pin summary")).to_have_text("고정한 판독문")
    assert page.input_value(".pin textarea") == REPORT
    page.get_by_role("button", name="대화 지우기").click()
    expect(page.locator(".pin textarea")).to_have_value("")
    say(page, "Question 8")
    assert "Report:" not in prompt_of(page)
    pin(page, REPORT)
    say(page, "Question 9")
    page.get_by_role("button", name="빼기").click()
    expect(page.locator(".pin textarea")).to_have_value("")


@pytest.mark.browser
def test_a_report_that_is_too_long_is_named_and_not_cut(page: Page) -> None:
    show(page)
    pin(page, "pneumonia " * 2000)
    page.fill("#hilum-question", "Where?")
    page.press("#hilum-question", "Enter")
    expect(page.locator(".composer .trouble")).to_contain_text("pinned report")
    pin(page, "short")
    say(page, "Where?")


@pytest.mark.browser
def test_on_a_phone_both_are_within_reach(open_page: Opened) -> None:
    page = open_page(width=390, height=844)
    show(page)
    say(page, "Is there an opacity?")
    for part in (".voices button", ".pin summary"):
        box = page.locator(part).first.bounding_box()
        assert box is not None and box["height"] >= 40 and box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def asked(client: Client, picture: Path | None, options: str) -> dict[str, Any]:
    found: dict[str, Any] = client.predict(picture and handle_file(str(picture)), "Is it there?", options, api_name="/ask")
    return found


def test_a_client_chooses_for_each_question(served: Served, picture: Path) -> None:
    client = Client(served.url, verbose=False)
    options = '{"temperature": 0, "max_new_tokens": 6, "adapter": %s}'
    plain, taught = asked(client, picture, options % "false"), asked(client, picture, options % "true")
    assert (plain["model"], taught["model"]) == (BASE, TAUGHT)
    assert plain["prompt_hash"] == taught["prompt_hash"] and plain["answer"] != taught["answer"]
    assert asked(client, None, options % "false")["model"] == BASE
    assert asked(client, None, "{}")["model"] == TAUGHT
    with pytest.raises(AppError, match="'adapter' in options cannot be used"):
        asked(client, None, '{"adapter": 1}')


def test_what_is_installed_beside_its_base_is_offered_and_the_base_goes_first(pair: Paired, models: Path) -> None:
    settings = Settings(model=str(models / BASE), classifier="none")
    offered = open_assistant(settings, offers=True)
    assert isinstance(offered, Paired) and (offered.engine.name, leader(offered)) == (TAUGHT, offered.base)
    for_a_session = deepcopy(Desk(5, "en", is_adapted=leads(offered)))
    assert speaker(offered, for_a_session.is_adapted) is offered.base and leader(pair) is pair
    for declined, offers in ((settings, False), (settings.model_copy(update={"adapter": "none"}), True)):
        assert not isinstance(open_assistant(declined, offers), Paired)


def test_without_an_adapter_nobody_is_offered_one(tmp_path: Path) -> None:
    from chat.ui.api import Api

    base = build_checkpoint(tmp_path / BASE)
    assistant, desk = open_assistant(Settings(model=str(base), classifier="none")), Desk(5, "en")
    assert not isinstance(assistant, Paired) and seeded(SAMPLING, assistant) == SAMPLING
    shown = talk(desk, About(BASE, "cpu", "float32", False, 100))
    assert shown["voices"] == [] and not shown["items"]
    with pytest.raises(Exception, match="HILUM_ADAPTER"):
        Api(assistant, SAMPLING, 10_000, lambda *_: None).ask(None, "Is it there?", desk, '{"adapter": true}')
    with pytest.raises(RequestError, match="without evidence"):
        desk.compare("model")
