"""The page: which parts there are, where they stand, and which event leads to which handler.

Knows Gradio's components. Does not know what the handlers do or what the words are.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from chat.acceptance import Acceptance
from chat.assistant import Assistant
from chat.conversation import DEFAULT_TURNS
from chat.engine.base import Sampling
from chat.pair import Paired, leader, leads
from chat.ui import kept_panel, panels, report_panel, search_panel
from chat.ui.api import Api
from chat.ui.desk import Desk
from chat.ui.door import House, stay_home
from chat.ui.drawers import drawers, labels
from chat.ui.evidence_panel import evidence
from chat.ui.handlers import Handlers
from chat.ui.keeping import Keeping
from chat.ui.lan import Access
from chat.ui.lens_panel import eye_of
from chat.ui.panels import About
from chat.ui.reporting import Reporting
from chat.ui.search_api import add_endpoints
from chat.ui.searching import Searching
from chat.ui.stage_panel import stage
from chat.ui.theme import css, script, style, theme
from chat.ui.upload import MOST_MEGABYTES, upload
from chat.wording import Language

ENGINE = "engine"
"""Searches by name, which Gradio lets in as many at a time as the engine answers."""

LINE = "line"
"""Questions and reports: all come in at once and stand in the assistant's own line, which knows their places and refuses."""

AT_ONCE = 160
"""Threads: what the line may hold, and room beside it for whoever is refused, uploads or looks."""

SEARCH = "search"
"""The queue of searches: a question is answered between two looks, for the engine itself takes one caller after the other."""

MOST_WAITING = 128
SESSIONS = 256
IDLE_SECONDS = 6 * 3600
"""A desk is cleared away this long after its last question."""

HIDDEN: dict[str, Any] = {
    "show_progress": "hidden", "show_progress_on": [], "api_visibility": "private", "trigger_mode": "multiple",
}  # fmt: skip
"""What all of the page's own events have in common. Gradio draws progress on no part: hidden or not, it would draw each anew at
every step of an answer, and a browser takes its time from the model where both have the same two cores.
"""

FAVICON = Path(__file__).with_name("mark.png")


def build(
    assistant: Assistant,
    about: About,
    sampling: Sampling,
    language: Language | None,
    max_pixels: int,
    turns: int = DEFAULT_TURNS,
    at_once: int = 1,
    acceptance: Acceptance | None = None,
) -> gr.Blocks:
    """The whole page with its API, ready to launch; `at_once` questions are answered at a time.

    `acceptance` says when a hit of a search is believed; None is the careful default.
    """
    about = replace(about, base=assistant.base.engine.name) if isinstance(assistant, Paired) else about
    handlers = Handlers(assistant, about, language, max_pixels)
    keeping = Keeping(assistant, handlers)
    searching = Searching(leader(assistant), about, acceptance or Acceptance(), max_pixels)
    first = Desk(turns, language or "en", eye_of(assistant), leads(assistant))
    with gr.Blocks(title="Hilum", analytics_enabled=False, fill_width=True, delete_cache=(60, 600)) as page:
        desk = gr.State(first, time_to_live=IDLE_SECONDS, delete_callback=lambda gone: assistant.engine.forget(gone.session))
        # First, so that its names are its own.
        _api(Api(assistant, sampling, max_pixels, handlers.meet), desk, at_once, acceptance or Acceptance())
        bar = _part("bar", panels.bar(first, about))
        with gr.Row(elem_id="hilum"):
            with gr.Column(elem_id="hilum-left"):
                image = _part("stage", stage(first))
                search = _part("search", search_panel.search(first))
                found = _part("evidence", evidence(first, assistant))
                report = _part("report", report_panel.report(first))
                controls, views, window, prompt, model = drawers(first, about, sampling)
                kept = _part("kept", kept_panel.kept(first))
            with gr.Column(elem_id="hilum-right"):
                talk = _part("talk", panels.talk(first, about))
        viewer = _part("viewer", search_panel.viewer(first), searching.served())
        foot = gr.HTML(panels.foot(first.language, about), elem_id="hilum-foot")
        drawn = [talk, views, window, prompt, found]
        placed = [image, report, *drawn]
        everything = [desk, bar, search, viewer, *placed, model, foot, *controls.all, kept]
        in_line: dict[str, Any] = {"concurrency_id": LINE, "concurrency_limit": AT_ONCE, **HIDDEN}
        _wire_whole(page, (bar, kept), handlers, keeping, desk, everything)
        inputs = [desk, *controls.inputs]
        _wire_image(image, handlers, inputs, placed, {"fn": searching.draw_both, "outputs": [search, viewer]})
        found.switch(handlers.switch, desk, found, queue=False, **HIDDEN)
        _wire_search((search, image, talk), viewer, handlers, searching, desk, at_once)
        _wire_talk(talk, handlers, desk, drawn, inputs, in_line)
        _wire_report(report, Reporting(leader(assistant)), [desk, *controls.inputs[:4]], in_line)
    page.queue(max_size=MOST_WAITING)
    built: gr.Blocks = page
    return built


def _wire_whole(
    page: gr.Blocks, parts: tuple[Any, Any], handlers: Handlers, keeping: Keeping, desk: gr.State, everything: list[Any]
) -> None:
    """What draws the page anew: opening it, another language, forgetting; `parts` are the bar and what is kept."""
    bar, kept = parts

    def open_page(desk: Desk, request: gr.Request) -> list[Any]:
        return _everything(handlers.open(desk, request), handlers)

    def speak(desk: Desk, event: gr.EventData) -> list[Any]:
        return _everything(handlers.speak(desk, event), handlers)

    def forget(desk: Desk, request: gr.Request) -> list[Any]:
        fresh, nothing = keeping.forget(desk, request)
        return [*_everything(fresh, handlers)[:-1], nothing]

    page.load(open_page, desk, everything, **HIDDEN)
    page.unload(handlers.leave)
    kept.check(keeping.check, desk, kept, queue=False, **HIDDEN)
    kept.forget(forget, desk, everything, queue=False, **HIDDEN)
    bar.speak(speak, desk, everything, queue=False, **HIDDEN)


def _wire_image(image: Any, handlers: Handlers, inputs: list[Any], placed: list[Any], after: dict[str, Any]) -> None:
    """How an image comes and goes, and what is drawn `after` that; `inputs` are the desk and what an answer is made with."""
    desk = inputs[0]
    after = {"inputs": desk, "queue": False, **HIDDEN, **after}
    for event, place in ((image.place, handlers.place), (image.example, handlers.show_example)):
        event(place, desk, placed, **HIDDEN).then(**after).then(handlers.prepare, inputs, **HIDDEN)
    image.remove(handlers.remove, desk, placed, queue=False, **HIDDEN).then(**after)
    image.window(handlers.rewindow, desk, image, **HIDDEN)


def _wire_talk(
    talk: Any, handlers: Handlers, desk: gr.State, drawn: list[Any], inputs: list[Any], in_line: dict[str, Any]
) -> None:
    """What is done in the conversation; `inputs` are the desk and what an answer is made with."""
    after: dict[str, Any] = {"fn": handlers.draw, "inputs": desk, "outputs": drawn, "queue": False, **HIDDEN}
    asked = (
        (talk.ask, handlers.ask), (talk.edit, handlers.edit), (talk.regenerate, handlers.regenerate),
        (talk.compare, handlers.compare),
    )  # fmt: skip
    for event, take in asked:
        event(take, inputs, [desk, talk], **in_line).then(**after).then(handlers.prepare, inputs, **HIDDEN)
    for event, act in ((talk.stop, handlers.stop), (talk.undo, handlers.undo)):
        event(act, desk, drawn, queue=False, **HIDDEN)
    talk.vote(handlers.vote, desk, talk, queue=False, **HIDDEN).then(handlers.prepare, inputs, **HIDDEN)
    talk.pin(handlers.pin, desk, queue=False, **HIDDEN).then(handlers.prepare, inputs, **HIDDEN)
    talk.clear(handlers.clear, desk, drawn, queue=False, **HIDDEN).then(handlers.prepare, inputs, **HIDDEN)


def _wire_search(
    parts: tuple[Any, Any, Any], viewer: Any, handlers: Handlers, searching: Searching, desk: gr.State, at_once: int
) -> None:
    """The two tools of the image, the viewer, and the choice of a part; `parts` are the search, the stage and the talk."""
    search, image, talk = parts
    for part in (*parts, viewer):
        part.choose(handlers.choose, desk, [image, talk], queue=False, **HIDDEN).then(
            searching.draw, desk, search, queue=False, **HIDDEN
        )
    search.refer(searching.refer, desk, search, **HIDDEN)
    search.begin(searching.accept, desk, [desk, search], queue=False, **HIDDEN).then(
        searching.run, desk, list(parts), concurrency_id=SEARCH, concurrency_limit=at_once, **HIDDEN
    )
    search.stop(searching.stop, desk, search, queue=False, **HIDDEN)
    viewer.open(searching.look_into, desk, viewer, **HIDDEN)


def _wire_report(report: Any, reporting: Reporting, inputs: list[Any], in_line: dict[str, Any]) -> None:
    """The report's own events; `inputs` are the desk and what an answer is sampled with."""
    desk = inputs[0]
    report.write(reporting.accept, desk, [desk, report], queue=False, **HIDDEN).then(reporting.write, inputs, report, **in_line)
    report.stop(reporting.stop, desk, report, queue=False, **HIDDEN)
    report.save(reporting.save, desk, report, **HIDDEN)


def launch(page: gr.Blocks, host: str, port: int, access: Access | None = None) -> str:
    """Serve the page to those whom `access` lets in, by default this machine, and come back with its address.

    Never shared, and nothing beside it is served.
    """
    access = access or Access()
    for name in ("no_proxy", "NO_PROXY"):  # Gradio asks itself whether it has started, and no proxy is to hear of it
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "localhost", host)))
    stay_home()
    page.launch(
        server_name=f"[{host}]" if ":" in host else host, server_port=port, _app=House(host, access),
        auth=list(access.accounts) or None, ssl_verify=False,
        ssl_certfile=access.certificate, ssl_keyfile=access.key,
        share=False, inbrowser=False, prevent_thread_lock=True, quiet=True,
        show_error=True, run_history=False, footer_links=[], enable_monitoring=False, pwa=False, mcp_server=False,
        ssr_mode=False, max_file_size=f"{MOST_MEGABYTES}mb", state_session_capacity=SESSIONS, max_threads=AT_ONCE,
        theme=theme(), css=css(), favicon_path=FAVICON,
    )  # fmt: skip
    return str(page.local_url)


def _part(name: str, value: panels.Value, served: Sequence[Callable[..., str]] = ()) -> Any:
    """A part of the page that is drawn by its own script; it says what its value says, and may call what is served."""
    return gr.HTML(
        value, html_template="<div></div>", js_on_load=script(name), apply_default_css=False, elem_id=f"hilum-{name}",
        css_template=style(name), server_functions=[*served],
    )  # fmt: skip


def _everything(desk: Desk, handlers: Handlers) -> list[Any]:
    """All that is written on the page, in the desk's language."""
    return [
        desk, panels.bar(desk, handlers.about), search_panel.search(desk), search_panel.viewer(desk), stage(desk),
        report_panel.report(desk), *handlers.draw(desk), panels.about(desk, handlers.about),
        panels.foot(desk.language, handlers.about), *labels(desk.language),
        kept_panel.kept(desk),
    ]  # fmt: skip


def _api(api: Api, desk: gr.State, at_once: int, acceptance: Acceptance) -> None:
    """The endpoints that a client may call by name; their components are never shown."""
    with gr.Column(visible=False):
        image, question, options = upload("image"), gr.Textbox(label="question"), gr.JSON(label="options")
        language = gr.Textbox(label="language")
        result, cleared = gr.JSON(label="result"), gr.JSON(label="cleared")
        ask, examine, report, clear = gr.Button(), gr.Button(), gr.Button(), gr.Button()
    at_engine: dict[str, Any] = {"concurrency_id": ENGINE, "concurrency_limit": at_once}
    in_line: dict[str, Any] = {"concurrency_id": LINE, "concurrency_limit": AT_ONCE}
    ask.click(
        api.ask, [image, question, desk, options], [result, desk], api_name="ask", **in_line,
        api_description="Ask about an image; null continues the conversation about the last one.",
    )  # fmt: skip
    examine.click(
        api.examine, image, result, api_name="examine",
        api_description="What the classifier says about an image, or why it says nothing.",
    )  # fmt: skip
    report.click(
        api.report, [image, language, desk, options], result, api_name="report", **in_line,
        api_description="A report about an image, in ko or en; null is about the session's own image.",
    )  # fmt: skip
    forgetting = "Forget this session's image and conversation."
    clear.click(api.clear, desk, [cleared, desk], api_name="clear", api_description=forgetting)
    add_endpoints(api, desk, at_engine, acceptance)
