"""The page: which parts there are, where they stand, and which event leads to which handler.

Knows Gradio's components. Does not know what the handlers do or what the words are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from chat.acceptance import Acceptance
from chat.assistant import Assistant
from chat.conversation import DEFAULT_TURNS
from chat.engine.base import Sampling
from chat.prompt import SYSTEM
from chat.ui import panels, report_panel
from chat.ui.api import Api
from chat.ui.desk import Desk
from chat.ui.door import Door
from chat.ui.evidence_panel import evidence
from chat.ui.handlers import Handlers
from chat.ui.panels import About
from chat.ui.reporting import Reporting
from chat.ui.search_api import add_endpoints
from chat.ui.stage_panel import stage
from chat.ui.theme import css, script, theme
from chat.ui.upload import MOST_MEGABYTES, upload
from chat.ui.words import word
from chat.wording import Language

ENGINE = "engine"
"""The one queue of everything that uses the model."""

MOST_WAITING = 32
SESSIONS = 64
IDLE_SECONDS = 6 * 3600
"""A desk is cleared away this long after its last question."""

HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}
"""What all of the page's own events have in common."""

FAVICON = Path(__file__).with_name("mark.png")


@dataclass(frozen=True)
class Controls:
    """Gradio's own components, whose labels follow the language."""

    temperature: gr.Slider
    top_p: gr.Slider
    most: gr.Slider
    seed: gr.Textbox
    crops: gr.Checkbox
    system: gr.Textbox
    drawers: tuple[gr.Accordion, ...]

    @property
    def inputs(self) -> list[Any]:
        return [self.temperature, self.top_p, self.most, self.seed, self.crops, self.system]

    @property
    def all(self) -> list[Any]:
        return [*self.inputs, *self.drawers]


DRAWERS = ("views", "window", "settings", "prompt", "about")


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
    handlers = Handlers(assistant, about, language, max_pixels)
    first = Desk(turns, language or "en")
    with gr.Blocks(title="Hilum", analytics_enabled=False, fill_width=True, delete_cache=(60, 600)) as page:
        desk = gr.State(first, time_to_live=IDLE_SECONDS, delete_callback=lambda gone: assistant.engine.forget(gone.session))
        # First, so that its names are its own.
        _api(Api(assistant, sampling, max_pixels, handlers.meet), desk, at_once, acceptance or Acceptance())
        bar = _part("bar", panels.bar(first, about))
        with gr.Row(elem_id="hilum"):
            with gr.Column(elem_id="hilum-left"):
                image = _part("stage", stage(first))
                found = _part("evidence", evidence(first, assistant))
                report = _part("report", report_panel.report(first))
                controls, views, window, prompt, model = _drawers(first, about, sampling)
            with gr.Column(elem_id="hilum-right"):
                talk = _part("talk", panels.talk(first, about))
        foot = gr.HTML(panels.foot(first.language, about), elem_id="hilum-foot")
        drawn = [talk, views, window, prompt, found]
        placed = [image, report, *drawn]
        everything = [desk, bar, *placed, model, foot, *controls.all]
        at_engine: dict[str, Any] = {"concurrency_id": ENGINE, "concurrency_limit": at_once, **HIDDEN}

        def open_page(desk: Desk, request: gr.Request) -> list[Any]:
            return _everything(handlers.open(desk, request), handlers)

        def speak(desk: Desk, event: gr.EventData) -> list[Any]:
            return _everything(handlers.speak(desk, event), handlers)

        page.load(open_page, desk, everything, **HIDDEN)
        page.unload(handlers.leave)
        bar.speak(speak, desk, everything, queue=False, **HIDDEN)
        ahead = {"fn": handlers.prepare, "inputs": [desk, *controls.inputs], **HIDDEN}
        image.place(handlers.place, desk, placed, **HIDDEN).then(**ahead)
        image.example(handlers.show_example, desk, placed, **HIDDEN).then(**ahead)
        image.remove(handlers.remove, desk, placed, queue=False, **HIDDEN)
        image.window(handlers.rewindow, desk, image, **HIDDEN | {"trigger_mode": "always_last"})
        found.switch(handlers.switch, desk, found, queue=False, **HIDDEN)
        for part in (image, talk):
            part.choose(handlers.choose, desk, [image, talk], queue=False, **HIDDEN)
        _wire_talk(talk, handlers, desk, drawn, [desk, *controls.inputs], at_engine)
        _wire_report(report, Reporting(assistant), [desk, *controls.inputs[:4]], at_engine)
    page.queue(max_size=MOST_WAITING)
    built: gr.Blocks = page
    return built


def _wire_talk(
    talk: Any, handlers: Handlers, desk: gr.State, drawn: list[Any], inputs: list[Any], at_engine: dict[str, Any]
) -> None:
    """What is done in the conversation; `inputs` are the desk and what an answer is made with."""
    asked = (
        (talk.ask, handlers.accept), (talk.edit, handlers.edit), (talk.regenerate, handlers.regenerate),
        (talk.compare, handlers.compare),
    )  # fmt: skip
    for event, accept in asked:
        event(accept, desk, [desk, *drawn], queue=False, **HIDDEN).then(handlers.answer, inputs, drawn, **at_engine).then(
            handlers.prepare, inputs, **HIDDEN
        )
    for event, act in ((talk.stop, handlers.stop), (talk.undo, handlers.undo)):
        event(act, desk, drawn, queue=False, **HIDDEN)
    talk.clear(handlers.clear, desk, drawn, queue=False, **HIDDEN).then(handlers.prepare, inputs, **HIDDEN)


def _wire_report(report: Any, reporting: Reporting, inputs: list[Any], at_engine: dict[str, Any]) -> None:
    """The report's own events; `inputs` are the desk and what an answer is sampled with."""
    desk = inputs[0]
    report.write(reporting.accept, desk, [desk, report], queue=False, **HIDDEN).then(
        reporting.write, inputs, report, **at_engine
    )
    report.stop(reporting.stop, desk, report, queue=False, **HIDDEN)
    report.save(reporting.save, desk, report, **HIDDEN)


def launch(page: gr.Blocks, host: str, port: int) -> str:
    """Serve the page and come back with its address. Never shared, and nothing beside it is served."""
    page.launch(
        server_name=host, server_port=port, share=False, inbrowser=False, prevent_thread_lock=True, quiet=True,
        show_error=True, run_history=False, footer_links=[], enable_monitoring=False, pwa=False, mcp_server=False,
        ssr_mode=False, max_file_size=f"{MOST_MEGABYTES}mb", state_session_capacity=SESSIONS,
        theme=theme(), css=css(), favicon_path=FAVICON, app_kwargs={"middleware": [Middleware(Door)]},
    )  # fmt: skip
    return str(page.local_url)


def _part(name: str, value: panels.Value) -> Any:
    """A part of the page that is drawn by its own script; it says nothing but what its value says."""
    empty = "<div></div>"
    return gr.HTML(value, html_template=empty, js_on_load=script(name), apply_default_css=False, elem_id=f"hilum-{name}")


def _drawers(desk: Desk, about: About, sampling: Sampling) -> tuple[Controls, gr.HTML, gr.HTML, gr.HTML, gr.HTML]:
    language = desk.language
    shelves = {name: gr.Accordion(word(name, language), open=name == "views", elem_classes="drawer") for name in DRAWERS}
    with shelves["views"]:
        views = gr.HTML(panels.views(desk))
    with shelves["window"]:
        window = gr.HTML(panels.window(desk, about))
    with shelves["settings"]:
        temperature = gr.Slider(0, 2, sampling.temperature, step=0.05, label=word("temperature", language))
        top_p = gr.Slider(0.05, 1, sampling.top_p, step=0.05, label=word("top_p", language))
        longest = max(2048, sampling.max_new_tokens)
        most = gr.Slider(1, longest, sampling.max_new_tokens, step=1, label=word("max_new_tokens", language))
        seed = gr.Textbox("" if sampling.seed is None else str(sampling.seed), max_lines=1, label=word("seed", language))
        crops = gr.Checkbox(True, label=word("crops", language))
        system = gr.Textbox(SYSTEM, lines=3, max_lines=8, label=word("system_prompt", language))
    with shelves["prompt"]:
        prompt = gr.HTML(panels.prompt(desk))
    with shelves["about"]:
        model = gr.HTML(panels.about(desk, about))
    return Controls(temperature, top_p, most, seed, crops, system, tuple(shelves.values())), views, window, prompt, model


def _labels(language: Language) -> list[Any]:
    """The labels of `Controls.all`, in its order."""

    def field(name: str, is_told: bool) -> Any:
        return gr.update(label=word(name, language), info=word(f"{name}_info", language) if is_told else None)

    fields = [field(name, is_told=True) for name in ("temperature", "top_p")] + [field("max_new_tokens", is_told=False)]
    fields += [field(name, is_told=True) for name in ("seed", "crops")] + [field("system_prompt", is_told=False)]
    return [*fields, *(gr.update(label=word(name, language)) for name in DRAWERS)]


def _everything(desk: Desk, handlers: Handlers) -> list[Any]:
    """All that is written on the page, in the desk's language."""
    return [
        desk, panels.bar(desk, handlers.about), stage(desk), report_panel.report(desk), *handlers.draw(desk),
        panels.about(desk, handlers.about), panels.foot(desk.language, handlers.about), *_labels(desk.language),
    ]  # fmt: skip


def _api(api: Api, desk: gr.State, at_once: int, acceptance: Acceptance) -> None:
    """The endpoints that a client may call by name; their components are never shown."""
    with gr.Column(visible=False):
        image, question, options = upload("image"), gr.Textbox(label="question"), gr.JSON(label="options")
        language = gr.Textbox(label="language")
        result, cleared = gr.JSON(label="result"), gr.JSON(label="cleared")
        ask, examine, report, clear = gr.Button(), gr.Button(), gr.Button(), gr.Button()
    at_engine: dict[str, Any] = {"concurrency_id": ENGINE, "concurrency_limit": at_once}
    ask.click(
        api.ask, [image, question, desk, options], [result, desk], api_name="ask", **at_engine,
        api_description="Ask about an image; null continues the conversation about the last one.",
    )  # fmt: skip
    examine.click(
        api.examine, image, result, api_name="examine",
        api_description="What the classifier says about an image, or why it says nothing.",
    )  # fmt: skip
    report.click(
        api.report, [image, language, desk, options], result, api_name="report", **at_engine,
        api_description="A report about an image, in ko or en; null is about the session's own image.",
    )  # fmt: skip
    forgetting = "Forget this session's image and conversation."
    clear.click(api.clear, desk, [cleared, desk], api_name="clear", api_description=forgetting)
    add_endpoints(api, desk, at_engine, acceptance)
