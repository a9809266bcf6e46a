"""The line as the page shows it: a report's place, what it is refused, and that its session may not ask meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from browsing import ask, drop
from gradio_client import Client, handle_file
from playwright.sync_api import Page, expect
from served import Served, serve

pytest_plugins = ("browsing",)
pytestmark = pytest.mark.browser
PATIENCE = 120
"""Seconds for an answer and a report, on a machine that has other things to do."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("line"), max_new_tokens=4) as running:
        yield running


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
    ask(page, "Is there an opacity?", wait=False)
    expect(page.get_by_text("Your last request is still under way.")).to_be_visible()
    assert page.input_value("#hilum-question") == "Is there an opacity?"
    served.engine.pause = 0
    assert first.result(PATIENCE)["turn"] == 1
    page.locator(".report-open").click()
    expect(page.locator(".report-page h3")).to_have_count(4, timeout=1000 * PATIENCE)
    page.keyboard.press("Escape")
    ask(page, "And now?")
