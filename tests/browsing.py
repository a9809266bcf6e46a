"""Browsing: a real browser on a served page, and what a person does there.

Knows the page as a person meets it. Does not know what is tested; a test module brings its own `served`.
Imported before pytest learns of its fixtures, hence PYTEST_DONT_REWRITE.
"""

import base64
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, FloatRect, Page, expect, sync_playwright
from served import Served

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

Opened = Callable[..., Page]

expect.set_options(timeout=60_000)  # a machine may have other things to do


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser, served: Served) -> Iterator[Opened]:
    """Open the page in a browser of its own, which has to end without an error in its console."""
    contexts, errors = [], []
    served.engine.pause = 0

    def opened(locale: str = "en-US", width: int = 1200, height: int = 800) -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": height})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(served.url)
        page.locator("body[data-hilum=open]").wait_for()
        expect(page.locator(".languages [aria-pressed=true]")).to_have_attribute("lang", locale[:2])
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == [], errors


@pytest.fixture
def page(open_page: Opened) -> Page:
    return open_page()


def drop(page: Page, data: bytes, name: str = "a private name.webp") -> None:
    """Drop a file on the page, as a mouse does."""
    page.evaluate(
        """([text, name]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name));
            for (const type of ["dragenter", "dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        [base64.b64encode(data).decode(), name],
    )


def drag(page: Page, selector: str, start: tuple[float, float], end: tuple[float, float]) -> FloatRect:
    """Drag from one place in an element to another, in screen pixels from its corner; and where it stands."""
    frame = page.locator(selector).bounding_box()
    assert frame is not None
    page.mouse.move(frame["x"] + start[0], frame["y"] + start[1])
    page.mouse.down()
    page.mouse.move(frame["x"] + end[0], frame["y"] + end[1], steps=3)
    page.mouse.up()
    return frame


def ask(page: Page, question: str, wait: bool = True) -> None:
    """Ask, and wait for the answer, which the served engine never ends by itself."""
    before = page.locator(".turn").count()
    page.fill("#hilum-question", question)
    page.press("#hilum-question", "Enter")
    expect(page.locator(".turn")).to_have_count(before + 1)
    if wait:
        expect(page.locator(".turn").last).to_have_attribute("data-state", "cut")
        expect(page.locator(".send")).not_to_have_class(re.compile("busy"))


def answer_of(page: Page, turn: int = -1) -> str:
    return page.locator(".turn .answer p").nth(turn).inner_text()


def drawer(page: Page, title: str) -> None:
    page.locator(".drawer .label-wrap", has_text=title).click()
