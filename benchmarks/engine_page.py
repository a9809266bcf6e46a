"""The page: from a pressed Enter to the first word on the page, over what the engine takes for it: P17, in a browser.

The page is served from this process, as Hilum is. Knows the page as a person meets it. Does not know how fast the engine is.
"""

import base64
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
from playwright.sync_api import Page, sync_playwright

from benchmarks.engine_mini import Talk
from benchmarks.load import BROWSERS, FLAGS, free_port
from chat.assistant import Assistant
from chat.engine.base import Delta, Message, Sampling
from chat.engine.checkpoint import Loaded
from chat.engine.local import LocalEngine

WAIT_MILLISECONDS = 60_000
WORDS = Sampling(48, temperature=1.0, top_p=1.0, seed=7)
"""Most tokens of a random model have no letters, and the likeliest may go round among those for ever."""
DROP = """(text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], "picture.png"));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""
WATCH = """() => {
    const watched = (window.watched = { start: 0, drawn: [], said: "" });
    const before = document.querySelectorAll(".turn").length;
    addEventListener("keydown", () => (watched.start = performance.now()), { capture: true, once: true });
    new MutationObserver(() => {
        const turn = [...document.querySelectorAll(".turn")][before];
        const said = turn?.querySelector(".answer[data-is-empty=false] p")?.textContent ?? "";
        if (said !== watched.said && watched === window.watched) watched.drawn.push(performance.now() - watched.start);
        watched.said = said;
    }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
}"""


class TimedEngine(LocalEngine):
    """Says of each answer how many seconds its first word took, and how many tokens it had."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self.answers: list[tuple[float, int]] = []

    def stream(self, messages: Sequence[Message], sampling: Sampling, session: str) -> Iterator[Delta]:
        started, first, tokens = time.perf_counter(), 0.0, 0
        for delta in super().stream(messages, sampling, session):
            first, tokens = first or (time.perf_counter() - started if delta.text else 0.0), tokens + delta.count
            yield delta
        self.answers.append((first, tokens))


def first_word(loaded: Loaded, questions: int = 6) -> dict[str, object]:
    """P17 in milliseconds, a median; `drawings` are how often the page changed for so many `tokens`. None without Chromium."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return {"ratio": None, "missing": "Chromium"}
    with served(loaded, browser) as (engine, page):
        drawn = [_ask(page, f"Question {number}: is there a shadow in the left lung?") for number in range(questions)]
    pages, engines = np.array([times[0] for times in drawn]), 1e3 * np.array([first for first, _ in engine.answers])
    return {
        "ratio": round(float(np.median(pages - engines)), 1), "page_milliseconds": round(float(np.median(pages)), 1),
        "engine_milliseconds": round(float(np.median(engines)), 1), "questions": questions,
        "drawings": sum(map(len, drawn)), "tokens": sum(tokens for _, tokens in engine.answers),
    }  # fmt: skip


@contextmanager
def served(loaded: Loaded, path: str) -> Iterator[tuple[TimedEngine, Page]]:
    """The page with a small picture on it, whose beginning is computed."""
    with tempfile.TemporaryDirectory() as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        from chat.ui import page as pages
        from chat.ui.panels import About

        engine = TimedEngine(loaded)
        engine.warm_up()
        about = About(loaded.name, loaded.device, str(loaded.dtype), False, loaded.context_tokens)
        blocks = pages.build(Assistant(engine, engine.input_side), about, WORDS, "en", 4_000_000)
        url = pages.launch(blocks, "127.0.0.1", free_port())
        try:
            with (
                sync_playwright() as playwright,
                closing(playwright.chromium.launch(executable_path=path, args=FLAGS)) as browser,
            ):
                page = browser.new_page(locale="en-US")
                page.set_default_timeout(WAIT_MILLISECONDS)
                page.goto(url)
                page.locator("body[data-hilum=open]").wait_for()
                data = io.BytesIO()
                Talk.begin(17).image.resize((320, 240)).save(data, "PNG")
                page.evaluate(DROP, base64.b64encode(data.getvalue()).decode())
                page.locator(".size").wait_for()
                _rest(page, engine)
                engine.answers.clear()
                yield engine, page
        finally:
            blocks.close(verbose=False)


def _rest(page: Page, engine: LocalEngine) -> None:
    """Wait until nothing more is computed ahead."""
    page.wait_for_timeout(1500)
    with engine._turnstile.turn():
        pass


def _ask(page: Page, question: str) -> list[float]:
    """Milliseconds from Enter to each drawing of the answer."""
    page.fill("#hilum-question", question)
    page.evaluate(WATCH)
    page.press("#hilum-question", "Enter")
    page.wait_for_function("window.watched.drawn.length > 0")
    page.locator(".send:not(.busy)").wait_for()
    page.wait_for_timeout(1500)
    drawn: list[float] = page.evaluate("window.watched.drawn")
    return drawn
