"""Handlers: what happens when a person does something on the page.

Knows desks, the assistant and Gradio's events. Does not know how the page is laid out; each method says what it draws.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, cast
from weakref import WeakValueDictionary

import gradio as gr

from chat import ahead
from chat.assistant import Answer, Assistant, Request, RequestError
from chat.engine.base import EngineError, Sampling
from chat.line import LineError
from chat.pair import Paired, speaker
from chat.ui import panels
from chat.ui.asked import aside_of, request_of, seeded, to_sampling
from chat.ui.desk import Desk, Exchange, Shown, Ticket
from chat.ui.diary import log_answer, log_bug, log_image, log_refusal
from chat.ui.evidence_panel import evidence, mapped
from chat.ui.gallery import EXAMPLES
from chat.ui.panels import About, Value
from chat.ui.pictures import PREVIEW_SIDE, data_url, layers_of, outline_of
from chat.ui.report_panel import report
from chat.ui.stage_panel import stage
from chat.ui.upload import take
from chat.ui.windows import windows_of
from chat.wording import LANGUAGES, Language
from vision.evidence import ITEMS, CheckpointError, Item
from vision.study import StudyError, read_study
from vision.tiling import Box

SECONDS_BETWEEN_DRAWINGS = 0.05
"""A page that is drawn more often than an eye can follow only takes time from the model."""

Drawing = tuple[Any, ...]
"""The new values of (talk, views, window, prompt, evidence)."""

Asked = tuple[Any, ...]
"""The desk, or nothing new of it, and the new value of the talk."""


class Handlers:
    """The page's events. One for all sessions; what belongs to a session is on its desk."""

    def __init__(self, assistant: Assistant, about: About, language: Language | None, max_pixels: int) -> None:
        self.assistant = assistant
        self.about = about
        self.language = language
        self.max_pixels = max_pixels
        self._present: WeakValueDictionary[str, Desk] = WeakValueDictionary()

    def open(self, desk: Desk, request: gr.Request) -> Desk:
        """A browser has come: in its language, unless the person who started Hilum chose one."""
        desk.language = self.language or _spoken(request.headers.get("accept-language", ""))
        desk.is_open = True
        self.meet(desk, request)
        return desk

    def meet(self, desk: Desk, request: gr.Request) -> None:
        """Whose desk this is, so that `leave` finds it."""
        self._present[str(request.session_hash)] = desk

    def leave(self, request: gr.Request) -> None:
        """A browser has gone: stop its answer and forget what was computed for it. The desk stays for a while."""
        desk = self._present.get(str(request.session_hash))
        if desk is not None:
            desk.stop()
            desk.report.is_stopped = True
            self.assistant.line.stop(f"{desk.session} report")
            self._let_go(desk)

    def _let_go(self, desk: Desk) -> None:
        """Nobody wants any more what is under way for this desk's conversation, or computed for it."""
        for session in (desk.session, _aside(desk)):
            self.assistant.line.stop(session)
        self.assistant.engine.forget(desk.session)

    def speak(self, desk: Desk, event: gr.EventData) -> Desk:
        """Change the language; nothing else changes."""
        if event.language in LANGUAGES:
            desk.language = event.language
        return desk

    def place(self, desk: Desk, event: gr.EventData) -> tuple[Value, Value, *Drawing]:
        """A file was dropped, pasted or chosen."""
        try:
            return self._put(desk, take(str(event.path)))
        except RequestError as error:
            return stage(desk, error), gr.skip(), *_unchanged()

    def show_example(self, desk: Desk, event: gr.EventData) -> tuple[Value, Value, *Drawing]:
        """A picture of the gallery was chosen."""
        example = EXAMPLES[int(event.index) % len(EXAMPLES)]
        return self._put(desk, example.data, example.questions)

    def remove(self, desk: Desk) -> tuple[Value, Value, *Drawing]:
        """Take the image away, and with it the conversation."""
        self._let_go(desk)
        desk.place(None)
        return stage(desk), report(desk), *self.draw(desk)

    def _put(self, desk: Desk, data: bytes, questions: Any = None) -> tuple[Value, Value, *Drawing]:
        started = time.perf_counter()
        try:
            study = read_study(data, self.max_pixels)
            found = self.assistant.examine(study)
        except (StudyError, CheckpointError) as error:
            log_refusal(error)
            return stage(desk, error), gr.skip(), *_unchanged()
        self._let_go(desk)
        finding = mapped(found)
        layers = layers_of(finding.heatmap, study.image.size, finding.trusted) if finding and finding.heatmap else None
        outline = outline_of(found.masks, study.image.size) if found else ""
        shown = Shown(data_url(study.image, PREVIEW_SIDE), questions, windows_of(study), layers, outline)
        desk.place(study, shown, found)
        log_image(study.image.size, time.perf_counter() - started)
        return stage(desk), report(desk), *self.draw(desk)

    def choose(self, desk: Desk, event: gr.EventData) -> tuple[Value, Value]:
        """A box was dragged over the image, or taken away."""
        trouble: Exception | None = None
        try:
            desk.choose(Box(*map(int, event.box)) if event.box else None)
        except RequestError as error:
            trouble = error
        return stage(desk, trouble), panels.talk(desk, self.about)

    def rewindow(self, desk: Desk, event: gr.EventData) -> Value:
        """Another window was chosen: the preview and the next question see the image through it."""
        study, windows = desk.study, desk.shown.windows
        if study and windows:
            try:
                desk.rewindows = int(event.number)
                seen = windows.through(float(event.center), float(event.width), bool(event.inverted))
                desk.rewindow(study, seen, data_url(seen.image, PREVIEW_SIDE))
            except (AttributeError, TypeError, ValueError) as error:  # the page sends numbers; else the image stays as it was
                log_refusal(error)
        return stage(desk)

    def switch(self, desk: Desk, event: gr.EventData) -> Value:
        """An item of the evidence was switched on or off for the next question."""
        if event.item == "overlay":
            desk.tells_overlay = bool(event.on)
        elif event.item in ITEMS:
            item = cast(Item, event.item)
            desk.told = desk.told | {item} if event.on else desk.told - {item}
        return evidence(desk, self.assistant)

    def vote(self, desk: Desk, event: gr.EventData) -> Value:
        """Which one of a pair answers from now on."""
        desk.is_adapted = bool(event.is_adapted)
        return panels.talk(desk, self.about)

    def pin(self, desk: Desk, event: gr.EventData) -> None:
        """A report was pinned, changed or taken off."""
        desk.pinned = str(event.pinned).strip()

    def ask(self, event: gr.EventData, desk: Desk, *controls: Any) -> Iterator[Asked]:
        """A question was sent: it stands in the conversation at once, whoever else is being answered."""
        self.pin(desk, event)
        yield from self._take(desk, controls, lambda: desk.accept(str(event.text)))

    def regenerate(self, desk: Desk, *controls: Any) -> Iterator[Asked]:
        """Ask the last question again."""
        yield from self._take(desk, controls, lambda: desk.accept(desk.take_back()))

    def edit(self, event: gr.EventData, desk: Desk, *controls: Any) -> Iterator[Asked]:
        """Ask something else in place of the last question."""
        self.pin(desk, event)
        yield from self._take(desk, controls, lambda: desk.accept(str(event.text) if desk.take_back() else ""))

    def compare(self, event: gr.EventData, desk: Desk, *controls: Any) -> Iterator[Asked]:
        """Ask the last question once more, without the evidence or of the other model; it waits as any question does."""
        is_pair = event.less == "model" and isinstance(self.assistant, Paired)
        yield from self._take(desk, controls, lambda: desk.compare("model" if is_pair else "evidence"))

    def _take(self, desk: Desk, controls: Sequence[Any], accept: Callable[[], object]) -> Iterator[Asked]:
        """Take a question and answer it, in one event; how it ends is drawn with all that it changes by the next.

        Only the talk goes out meanwhile: whatever an event may change costs Gradio, here and in the browser, at every drawing.
        """
        try:
            self.assistant.line.check()  # before a turn is taken back for it
            accept()
        except (RequestError, LineError) as error:
            desk.trouble = error
            return
        yield desk, panels.talk(desk, self.about)
        with closing(cast(Any, self.answer(desk, *controls))) as talks:
            for talk in talks:
                yield gr.skip(), talk

    def stop(self, desk: Desk) -> Drawing:
        """Stop the answer that is under way; what there is of it stays."""
        desk.stop()
        for session in (desk.session, _aside(desk)):
            self.assistant.line.stop(session)
        return _unchanged() if desk.is_answering else self.draw(desk)

    def undo(self, desk: Desk) -> Drawing:
        """Take the last exchange back."""
        try:
            desk.take_back()
        except RequestError as error:
            desk.trouble = error
        return self.draw(desk)

    def clear(self, desk: Desk) -> Drawing:
        """Forget the conversation; the image stays."""
        self._let_go(desk)
        desk.clear()
        return self.draw(desk)

    def answer(
        self, desk: Desk, temperature: float, top_p: float, most: float, seed: str, crops: bool, system: str
    ) -> Iterator[Value]:
        """Answer the question that waits on the desk, if it still does: the talk as it grows; how it ends is drawn with the
        rest. Closing this stops the engine.
        """
        begun = desk.begin()
        if begun is None:
            return
        ticket, exchange = begun
        trouble: Exception | None = None
        try:
            if exchange.request is None:
                sampling = seeded(to_sampling(temperature, top_p, most, seed), self.assistant)
                request = request_of(desk, exchange.question, exchange.question, sampling, crops, system)
                desk.record(ticket, request)
            else:
                exchange, request = aside_of(exchange, exchange.request)
            yield from self._grow(desk, ticket, exchange, request)
        except (RequestError, EngineError) as error:
            trouble = error
        except Exception as error:
            log_bug(error)
            trouble = error
        finally:
            desk.finish(ticket, trouble)

    def prepare(self, desk: Desk, temperature: float, top_p: float, most: float, seed: str, crops: bool, system: str) -> None:
        """Nobody waits: compute what stands before the next question of this desk."""
        with desk.lock:
            study, conversation, session, evidence = desk.study, desk.conversation, desk.session, desk.evidence
            spoken = desk.exchanges[-1].question if desk.exchanges else ""
            request = request_of(desk, "", spoken, Sampling(int(most)), crops, system)
        if study is not None and desk.is_open and not desk.is_answering:
            answering = speaker(self.assistant, desk.is_adapted)
            ahead.prepare(answering, request, study, conversation, session, evidence)

    def _grow(self, desk: Desk, ticket: Ticket, exchange: Exchange, request: Request) -> Iterator[Value]:
        drawn, last = 0.0, None
        study, session = (exchange.study, _aside(desk)) if ticket.is_aside else (desk.study, desk.session)
        answering = speaker(self.assistant, exchange.is_adapted)
        steps = answering.ask(request, study, exchange.before, session, desk.evidence)
        try:
            with closing(cast(Any, steps)):
                for step in steps:
                    last = step if isinstance(step, Answer) else last
                    if not desk.keep(ticket, step):
                        break
                    now = time.perf_counter()
                    if now - drawn >= SECONDS_BETWEEN_DRAWINGS:
                        yield panels.talk(desk, self.about)
                        drawn = now
        finally:
            if ticket.is_aside:
                self.assistant.engine.forget(session)
        log_answer(last)

    def draw(self, desk: Desk) -> Drawing:
        """The conversation and what belongs to it."""
        return (
            panels.talk(desk, self.about), panels.views(desk), panels.window(desk, self.about), panels.prompt(desk),
            evidence(desk, self.assistant),
        )  # fmt: skip


def _aside(desk: Desk) -> str:
    """The session of a question without the evidence: the conversation's own prefix stays computed."""
    return f"{desk.session} aside"


def _unchanged() -> Drawing:
    return (gr.skip(),) * 5


def _spoken(accepted: str) -> Language:
    """Korean when a browser prefers it to English."""
    known = [tag.strip()[:2].lower() for tag in accepted.split(",") if tag.strip()[:2].lower() in LANGUAGES]
    return "ko" if known[:1] == ["ko"] else "en"
