"""The API: `/ask`, `/examine`, `/report` and `/clear` by name, for clients that are no browsers.

Knows desks, options as JSON and Gradio's error. Does not know the page.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, TypeVar, cast

import gradio as gr
from gradio.context import LocalContext

from chat.assistant import Answer, Assistant, Request, RequestError
from chat.engine.base import EngineError, Sampling
from chat.pair import Paired, leader, leads, speaker
from chat.report.export import as_object
from chat.report.sheet import lay_out, overlay_of
from chat.report.write import Report, write_report
from chat.ui.desk import Desk, inside
from chat.ui.diary import log_answer, log_bug, log_refusal
from chat.ui.reporting import weights_of
from chat.ui.words import explain
from chat.wording import LANGUAGES, SECTIONS, Language, language_of
from vision.evidence import ITEMS, CheckpointError, Evidence, Item
from vision.study import Study, StudyError, read_study
from vision.tiling import Box

T = TypeVar("T")

MOST_BOXES = 16
EXAMPLE = '{"temperature": 0}'

Check = Callable[[Any], bool]
Meet = Callable[[Desk, gr.Request], None]
"""Takes note of whose desk it is, for when they leave."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_box(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_count, value)):
        return False
    left, top, right, bottom = value
    return bool(left < right and top < bottom)


OPTIONS: dict[str, tuple[Check, str]] = {
    "max_new_tokens": (lambda v: _is_count(v) and 1 <= v <= 4096, "1…4096"),
    "temperature": (lambda v: _is_number(v) and 0 <= v <= 2, "0…2"),
    "top_p": (lambda v: _is_number(v) and 0 < v <= 1, "0.01…1"),
    "seed": (lambda v: v is None or (_is_count(v) and 0 <= v < 2**63), "null, 0, 1, 2…"),
    "language": (lambda v: v is None or v in LANGUAGES, "null, ko, en"),
    "evidence": (lambda v: isinstance(v, bool), "true, false"),
    "overlay": (lambda v: isinstance(v, bool), "true, false"),
    "crops": (
        lambda v: isinstance(v, bool) or (isinstance(v, list) and len(v) <= MOST_BOXES and all(map(_is_box, v))),
        f"true, false, [[left, top, right, bottom], …] (≤ {MOST_BOXES})",
    ),
    "system_prompt": (lambda v: isinstance(v, str), '"…"'),
    "adapter": (lambda v: isinstance(v, bool), "true, false"),
}
"""Every key that `options` may hold, what passes, and how that is said."""


REPORT_OPTIONS = ("max_new_tokens", "temperature", "top_p", "seed", "evidence")


def read_options(options: object, known: Iterable[str] = OPTIONS) -> dict[str, Any]:
    """`options` as a client sends it (JSON text, an object, or nothing). Raises RequestError naming what is wrong."""
    try:
        read = json.loads(options) if isinstance(options, str) and options.strip() else options or {}
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise RequestError("options_not_json", f"options must be a JSON object, such as {EXAMPLE}.", example=EXAMPLE)
    for name, value in read.items():
        if name not in known:
            listed = ", ".join(known)
            raise RequestError("unknown_option", f"options has no '{name}'. It takes: {listed}.", name=name, known=listed)
        _check(name, value)
    return read


def _check(name: str, value: object) -> None:
    passes, allowed = OPTIONS[name]
    if not passes(value):
        raise RequestError("bad_option", f"'{name}' must be {allowed}.", name=name, allowed=allowed)


def _sampling(options: dict[str, Any], sampling: Sampling) -> Sampling:
    return replace(sampling, **{name: options[name] for name in REPORT_OPTIONS[:4] if name in options})


@contextmanager
def told(language: Callable[[], Language]) -> Iterator[None]:
    """Every failure as one sentence for the client, in the language that is known by then."""
    try:
        yield
    except (RequestError, StudyError, CheckpointError, EngineError) as error:
        log_refusal(error)
        raise gr.Error(explain(error, language()), print_exception=False) from None
    except Exception as error:
        log_bug(error)
        raise gr.Error(explain(error, language()), print_exception=False) from None


def to_request(question: str, options: dict[str, Any], sampling: Sampling) -> Request:
    """A question with checked options; what is not given is as the server was started."""
    crops = options.get("crops", True)
    evidence = ITEMS if options.get("evidence", True) else frozenset[Item]()
    overlay = options.get("overlay", False)
    request = Request(question, _sampling(options, sampling), options.get("language"), evidence, overlay)
    if isinstance(crops, bool):
        request = replace(request, crops=crops)
    else:
        request = replace(request, regions=tuple(Box(*box) for box in crops))
    return replace(request, system_prompt=options["system_prompt"]) if "system_prompt" in options else request


def _listening() -> Callable[[], bool]:
    """Whether the client of the call under way still waits for it, also one that has no heartbeat: Gradio notes on its
    event when the stream is hung up, and tells nobody.
    """
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = blocks._queue.event_ids_to_events.get(event_id) if blocks and event_id else None
    return lambda: event is None or event.alive


def last_heard(steps: Iterator[T]) -> T:
    """The last step, or the one at which the client hung up, which ends the work. Raises ValueError where there is none."""
    is_heard, last = _listening(), deque[T](maxlen=1)
    with closing(cast(Any, steps)):
        for step in steps:
            last.append(step)
            if not is_heard():
                break
    if not last:
        raise ValueError("There was not one step.")
    return last.pop()


class Api:
    """The endpoints. A client's session has a desk as a browser tab has."""

    def __init__(self, assistant: Assistant, sampling: Sampling, max_pixels: int, meet: Meet) -> None:
        self.assistant = assistant
        self.sampling = sampling
        self.max_pixels = max_pixels
        self.meet = meet
        self._at_work: set[Desk] = set()
        self._counting, self._reading = Lock(), Lock()

    def ask(
        self, image: bytes | None, question: str, desk: Desk, options: object = None, caller: gr.Request | None = None
    ) -> tuple[dict[str, object], Desk]:
        """The whole answer at once. A new image starts a new conversation; null goes on with the last one."""
        language: Language = language_of(question or "")
        if caller is not None:
            self.meet(desk, caller)
        with told(lambda: language):
            read = read_options(options)
            language = read.get("language") or language
            if "adapter" in read and not isinstance(self.assistant, Paired):
                raise RequestError("no_adapter", "This Hilum was started without an adapter.")
            with self.alone(desk):
                self.assistant.line.check()  # before a picture is read for nothing
                if image is not None:
                    study, evidence = self._examined(image)
                    self.assistant.engine.forget(desk.session)
                    desk.place(study, evidence=evidence)
                desk.is_adapted = read.get("adapter", leads(self.assistant))
                return self._answer(to_request(question or "", read, self.sampling), desk), desk

    @contextmanager
    def alone(self, desk: Desk) -> Iterator[None]:
        """One request of a session at a time. Raises RequestError for another; the first goes on."""
        with self._counting:
            if desk in self._at_work:
                raise RequestError("busy", "The last question is still being answered.")
            self._at_work.add(desk)
        try:
            yield
        finally:
            with self._counting:
                self._at_work.discard(desk)

    def _examined(self, image: bytes) -> tuple[Study, Evidence | None]:
        """One picture at a time: decoded, each may take as much memory as it is allowed to."""
        with self._reading:
            study = read_study(image, self.max_pixels)
            return study, self.assistant.examine(study)

    def _answer(self, request: Request, desk: Desk) -> dict[str, object]:
        if desk.study is not None:
            request = replace(request, regions=tuple(inside(box, desk.study.image.size) for box in request.regions))
        desk.accept(request.question)
        begun = desk.begin()
        if begun is None:
            raise RequestError("busy", "The last question is still being answered.")
        (ticket, exchange), answer, is_heard = begun, None, _listening()
        answering = speaker(self.assistant, exchange.is_adapted)
        try:
            steps = answering.ask(request, desk.study, exchange.before, desk.session, desk.evidence)
            with closing(cast(Any, steps)):
                for step in steps:
                    answer = step if isinstance(step, Answer) else answer
                    if not desk.keep(ticket, step) or not is_heard():
                        break
        finally:
            desk.finish(ticket)
        log_answer(answer)
        if answer is None:
            raise EngineError("The engine gave no answer.")
        return answer.result(answering.engine.name)

    def examine(self, image: bytes | None) -> dict[str, object]:
        """What the classifier and its gates say about an image; nothing is remembered."""
        with told(lambda: "en"):
            if image is None:
                raise RequestError("no_image", "Add an image first.")
            evidence = self._examined(image)[1]
            if evidence is None:
                raise RequestError("no_classifier", "This Hilum was started without a classifier.")
            return evidence.result()

    def report(
        self, image: bytes | None, language: str | None, desk: Desk, options: object = None, caller: gr.Request | None = None
    ) -> dict[str, object]:
        """The whole report about an image, or about the session's own; the session stays as it is."""
        spoken: Language = "ko" if language == "ko" else "en"
        if caller is not None:
            self.meet(desk, caller)
        with told(lambda: spoken):
            _check("language", language)
            read = read_options(options, REPORT_OPTIONS)
            study, evidence = desk.study, desk.evidence
            with self.alone(desk):
                self.assistant.line.check(desk.session)
                if image is not None:
                    study, evidence = self._examined(image)
                if study is None:
                    raise RequestError("no_image", "Add an image first.")
                evidence = evidence if read.get("evidence", True) else None
                return self._report(study, evidence, spoken, _sampling(read, self.sampling), f"{desk.session} report")

    def _report(
        self, study: Study, evidence: Evidence | None, language: Language, sampling: Sampling, session: str
    ) -> dict[str, object]:
        assistant = leader(self.assistant)
        try:
            steps = write_report(assistant, study, evidence, language, sampling, session)
            report = last_heard(assistant.line.lead(session, cast(Any, steps), len(SECTIONS)))
        finally:
            assistant.engine.forget(session)
        if not isinstance(report, Report):
            raise EngineError("The client left before its turn.")
        weights = weights_of(assistant)
        return as_object(report, lay_out(report, overlay_of(study, evidence), weights), weights)

    def clear(self, desk: Desk) -> tuple[dict[str, bool], Desk]:
        """Forget the image and the conversation of this session."""
        self.assistant.line.stop(desk.session)
        self.assistant.engine.forget(desk.session)
        desk.place(None)
        return {"cleared": True}, desk
