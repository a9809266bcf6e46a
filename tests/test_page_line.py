"""The line as the page shows it: a report's place, what it is refused, and that its session may not ask meanwhile."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import tiny
from browsing import answer_of, ask, drop
from gradio_client import Client, handle_file
from playwright.sync_api import Page, expect
from served import Served, serve

from chat.line import Line

pytest_plugins = ("browsing",)
pytestmark = pytest.mark.browser
PATIENCE = 120
"""Seconds for an answer and a report, on a machine that has other things to do."""


LINES: list[Line] = []
"""The served page's, in which two may wait."""


def short_line(engines: Iterable[object]) -> Line:
    LINES.append(Line(engines, most=2))
    return LINES[-1]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chat.assistant.Line", short_line)
        with serve(tmp_path_factory.mktemp("line"), max_new_tokens=4) as running:
            yield running


@pytest.mark.slow
def test_a_report_shows_its_place_and_its_session_asks_nothing_meanwhile(page: Page, served: Served, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    tiny.picture(1, (tiny.SIDE, 40)).save(picture)
    drop(page, picture.read_bytes())
    expect(page.locator(".size")).to_be_visible()
    served.engine.pause = 0.1
    client, before = Client(served.url, verbose=False), served.engine.served
    first = client.submit(handle_file(str(picture)), "Say all.", {"max_new_tokens": 200, "crops": False}, api_name="/ask")
    while served.engine.served == before:
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Write a report").click()
    header = page.locator(".report-sheet header")
    expect(header).to_contain_text("Waiting for its turn… 1 ahead")
    page.keyboard.press("Escape")
    page.fill("#hilum-question", "Is there an opacity?")
    page.press("#hilum-question", "Enter")
    expect(page.get_by_text("Your last request is still under way.")).to_be_visible()
    assert page.input_value("#hilum-question") == "Is there an opacity?"
    served.engine.pause = 0
    assert first.result(PATIENCE)["turn"] == 1
    page.locator(".report-open").click()
    expect(page.locator(".report-page h3")).to_have_count(4, timeout=1000 * PATIENCE)
    expect(page.locator(".report-page dd").first).to_be_visible(timeout=1000 * PATIENCE)  # what it shows when it has ended
    page.keyboard.press("Escape")
    ask(page, "And now?")


def test_a_full_line_is_said_on_the_page_and_what_was_said_and_typed_stays(page: Page, served: Served, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    tiny.picture(2, (tiny.SIDE, 40)).save(picture)
    drop(page, picture.read_bytes())
    expect(page.locator(".size")).to_be_visible()
    ask(page, "What is this?")
    said, long = answer_of(page), {"max_new_tokens": 200, "crops": False}
    served.engine.pause = 0.1
    under_way = [
        Client(served.url, verbose=False).submit(handle_file(str(picture)), "Say all.", long, api_name="/ask") for _ in range(3)
    ]
    while len(LINES[-1].waiting) < 2:
        page.wait_for_timeout(50)
    page.fill("#hilum-question", "And now?")
    page.press("#hilum-question", "Enter")
    expect(page.get_by_text("2 questions are waiting already.")).to_be_visible()
    assert page.input_value("#hilum-question") == "And now?" and answer_of(page, 0) == said
    served.engine.pause = 0
    assert [job.result(PATIENCE)["turn"] for job in under_way] == [1, 1, 1]
    ask(page, "And now?")
    assert answer_of(page, 0) == said
