"""The desk: what one browser tab, or one API client, has in front of it. The only thing in the house that changes.

Knows studies, conversations and answers. Does not know components, words or engines. Lives in memory only.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import uuid4

from PIL import Image

from chat.assistant import Answer, Looking, Request, RequestError
from chat.conversation import Conversation
from chat.report.write import Report
from chat.ui.lookup import Lookup, Normals
from chat.ui.pictures import Eye, Layers, Pyramid
from chat.ui.windows import Windows
from chat.wording import Language
from vision.evidence import ITEMS, Evidence, Item
from vision.study import Study
from vision.tiling import Box

State = Literal["waiting", "answering", "done", "stopped", "cut"]
Less = Literal["evidence", "model"]
"""What an aside does without: the evidence, or the one of a pair of models that gave the answer."""


@dataclass(frozen=True)
class Aside:
    """The question of an exchange once more, without what `less` names: beside the conversation, never in it."""

    less: Less = "evidence"
    state: State = "waiting"
    answer: Answer | None = None
    looking: Looking | None = None


@dataclass(frozen=True)
class Exchange:
    """One turn as the page shows it. `before` is the conversation without it, which makes undo and regenerate exact.

    `is_adapted`, `request` and `study` are what it was answered with, and so what an aside is asked with.
    """

    number: int
    question: str
    before: Conversation
    is_adapted: bool = True
    state: State = "waiting"
    answer: Answer | None = None
    looking: Looking | None = None
    request: Request | None = None
    study: Study | None = None
    aside: Aside | None = None


ENDS: dict[str | None, State] = {"stop": "done", "length": "cut", None: "stopped"}


@dataclass(eq=False)
class Ticket:
    """The right to answer one question; stopping it asks whoever answers to end."""

    is_aside: bool = False
    is_stopped: bool = False
    has_started: bool = False


@dataclass(eq=False)
class Draft:
    """The report about one image: none yet, one that waits behind `ahead` others or is being written, or one that has ended."""

    state: Literal["none", "waiting", "writing", "done", "stopped"] = "none"
    ahead: int = 0
    report: Report | None = None
    study: Study | None = None
    evidence: Evidence | None = None
    trouble: Exception | None = None
    is_stopped: bool = False


@dataclass(frozen=True)
class Shown:
    """What a page shows of a study besides itself; an API client has no use for it."""

    preview: str = ""
    questions: Mapping[Language, Sequence[str]] | None = None
    windows: Windows | None = None
    layers: Layers | None = None
    outline: str = ""


class Desk:
    """One study, one conversation, at most one question at a time. Every method may be called from any thread."""

    def __init__(self, turns: int, language: Language, eye: Eye | None = None, is_adapted: bool = True) -> None:
        self.session = uuid4().hex
        self.language: Language = language
        self.eye = eye or Eye()
        self.is_open = self.tells_overlay = False
        self.study: Study | None = None
        self.evidence: Evidence | None = None
        self.shown = Shown()
        self.told: frozenset[Item] = ITEMS
        self.report, self.lookup = Draft(), Lookup()
        self.reference: Image.Image | None = None
        self.normals: Normals | None = None
        self.pyramid: Pyramid | None = None
        self.region: Box | None = None
        self.conversation = Conversation(limit=turns)
        self.exchanges: tuple[Exchange, ...] = ()
        self.trouble: Exception | None = None
        self.drafts, self.draft, self.is_adapted, self.pinned, self.rewindows = 0, "", is_adapted, "", 0
        self._ticket: Ticket | None = None
        self.lock = threading.RLock()

    def __deepcopy__(self, memo: dict[int, object]) -> "Desk":
        """Gradio copies the first desk for every session: each gets an empty one of its own."""
        return Desk(self.conversation.limit, self.language, self.eye.another(), self.is_adapted)

    @property
    def last(self) -> Answer | None:
        """The newest answer, also one that is still growing."""
        return next((e.answer for e in reversed(self.exchanges) if e.answer), None)

    @property
    def told_evidence(self) -> Evidence | None:
        """The evidence with what the person lets through to the model."""
        return replace(self.evidence, items=self.told) if self.evidence else None

    @property
    def is_answering(self) -> bool:
        return self._ticket is not None

    @property
    def remembered(self) -> int:
        """How many of the last exchanges the model sees: the prompt that was sent last, with its answer."""
        if not self.exchanges:
            return 0
        newest = self.exchanges[-1]
        seen = 1 + (newest.answer.turns_in_window if newest.answer else len(newest.before.turns))
        return seen if newest.state in ("waiting", "answering") else min(seen, len(self.conversation.turns))

    def place(self, study: Study | None, shown: Shown = Shown(), evidence: Evidence | None = None) -> None:
        """A new image (or none) with what is known and shown of it: all under way is stopped, a new conversation begins.

        The reference picture of a search and what an inspection compares with stay for the next image.
        """
        with self.lock:
            self.clear()
            self.report.is_stopped, self.report = True, Draft()
            self.lookup.is_stopped, self.lookup, self.pyramid = True, Lookup(), None
            self.reference, self.normals = (self.reference, self.normals) if study else (None, None)
            self.study, self.shown, self.evidence, self.region, self.eye = study, shown, evidence, None, self.eye.another()

    def rewindow(self, before: Study, study: Study, preview: str) -> None:
        """The same image through another window, unless it has been taken away meanwhile; all else stays as it is.

        The evidence too: the classifier learned from films in their own window, not from a person's hand on a slider.
        """
        with self.lock:
            if self.study is before:
                self.study, self.shown, self.pyramid = study, replace(self.shown, preview=preview), None

    def clear(self) -> None:
        """Forget the conversation and keep the image."""
        with self.lock:
            self.stop()
            self._ticket = None
            self.conversation, self.exchanges, self.trouble, self.pinned = self.conversation.cleared(), (), None, ""
            self.session = uuid4().hex

    def open_pyramid(self) -> Pyramid | None:
        """The image in tiles, to look into; the same one while the image is the same."""
        with self.lock:
            if self.pyramid is None and self.study is not None:
                self.pyramid = Pyramid(self.study.image)
            return self.pyramid

    def choose(self, box: Box | None) -> None:
        """The part of the image that the next questions are about. Raises RequestError when it lies outside."""
        with self.lock:
            self.region = inside(box, self.study.image.size) if box and self.study else None

    def accept(self, question: str) -> Ticket:
        """Take a question, which now waits for its answer. Raises RequestError when it cannot be asked now."""
        with self.lock:
            if self._ticket is not None and self._ticket.has_started:
                raise RequestError("busy", "The last question is still being answered.")
            if not question.strip():
                raise RequestError("empty_question", "Type a question first.")
            if self.study is None:
                raise RequestError("no_image", "Add an image first, then ask about it.")
            self._drop_unanswered()
            self._ticket, self.trouble = Ticket(), None
            waiting = Exchange(self.conversation.asked + 1, question.strip(), self.conversation, self.is_adapted)
            self.exchanges = (*self.exchanges, waiting)
            self._write("")
            return self._ticket

    def compare(self, less: Less = "evidence") -> None:
        """Let the last question wait to be answered without what `less` names. Raises RequestError when that cannot be."""
        with self.lock:
            if self._ticket is not None:
                raise RequestError("busy", "The last question is still being answered.")
            if not self.exchanges or not self.can_compare(self.exchanges[-1], less):
                raise RequestError("no_evidence", "The last answer was given without evidence.")
            self._ticket, self.trouble = Ticket(is_aside=True), None
            self._change(aside=Aside(less))

    def can_compare(self, exchange: Exchange, less: Less = "evidence") -> bool:
        """Whether what `less` names had a part in the answer; whether there is another model is not known here."""
        is_film = self.evidence is not None and self.evidence.is_in_domain
        return exchange.request is not None and (less == "model" or (is_film and bool(exchange.request.evidence)))

    def begin(self) -> tuple[Ticket, Exchange] | None:
        """The question that waits for an answer, if it still does."""
        with self.lock:
            if self._ticket is None or self._ticket.has_started:
                return None
            self._ticket.has_started = True
            return self._ticket, self.exchanges[-1]

    def record(self, ticket: Ticket, request: Request) -> None:
        """Note what the question is answered with."""
        with self.lock:
            if self._ticket is ticket:
                self._change(request=request, study=self.study)

    def keep(self, ticket: Ticket, step: Answer | Looking) -> bool:
        """Keep what there is of the answer; False when nobody wants it any more."""
        with self.lock:
            if self._ticket is not ticket:
                return False
            last = self.exchanges[-1]
            grown: dict[str, Any] = {"state": "answering", "looking": step}
            if isinstance(step, Answer):
                grown |= {"answer": step, "looking": None}
                self.conversation = self.conversation if ticket.is_aside else step.conversation
            self._change(**({"aside": replace(last.aside or Aside(), **grown)} if ticket.is_aside else grown))
            return not ticket.is_stopped

    def finish(self, ticket: Ticket, trouble: Exception | None = None) -> None:
        """The question is over: answered, stopped, or in trouble. Without an answer it goes back to the draft."""
        with self.lock:
            if self._ticket is not ticket:
                return
            self._ticket, self.trouble = None, trouble
            exchange = self.exchanges[-1]
            if exchange.answer is None:
                self._drop_unanswered()
                self._write(exchange.question)
            elif not ticket.is_aside:
                self._change(state=ENDS[exchange.answer.finish])
            elif exchange.aside and exchange.aside.answer:
                self._change(aside=replace(exchange.aside, state=ENDS[exchange.aside.answer.finish]))
            else:
                self._change(aside=None)

    def stop(self) -> None:
        """Ask whoever answers to end; a question that only waits is over at once."""
        with self.lock:
            if self._ticket is not None:
                self._ticket.is_stopped = True
                if not self._ticket.has_started:
                    self.finish(self._ticket)

    def take_back(self) -> str:
        """Undo the last exchange, exactly; its question. Raises RequestError while one is under way or none is left."""
        with self.lock:
            if self._ticket is not None:
                raise RequestError("busy", "The last question is still being answered.")
            if not self.exchanges:
                raise RequestError("empty_question", "Type a question first.")
            last = self.exchanges[-1]
            self.conversation, self.exchanges, self.trouble = last.before, self.exchanges[:-1], None
            return last.question

    def _drop_unanswered(self) -> None:
        if self.exchanges and self.exchanges[-1].answer is None:
            self.exchanges = self.exchanges[:-1]
        elif self.exchanges and (aside := self.exchanges[-1].aside) and aside.answer is None:
            self._change(aside=None)

    def _change(self, **fields: Any) -> None:
        self.exchanges = (*self.exchanges[:-1], replace(self.exchanges[-1], **fields))

    def _write(self, draft: str) -> None:
        self.drafts, self.draft = self.drafts + 1, draft


def inside(box: Box, size: tuple[int, int]) -> Box:
    """The part of `box` on an image of (width, height). Raises RequestError when there is none."""
    try:
        return box.clipped(size)
    except ValueError:
        raise RequestError("outside_image", "The box lies outside the image.") from None
