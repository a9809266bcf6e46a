"""The desk: what one browser tab, or one API client, has in front of it. The only thing in the house that changes.

Knows studies, conversations and answers. Does not know components, words or engines. Lives in memory only.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import uuid4

from chat.assistant import Answer, Looking, RequestError
from chat.conversation import Conversation
from chat.wording import Language
from vision.study import Study
from vision.tiling import Box

State = Literal["waiting", "answering", "done", "stopped", "cut"]


@dataclass(frozen=True)
class Exchange:
    """One turn as the page shows it. `before` is the conversation without it, which makes undo and regenerate exact."""

    number: int
    question: str
    before: Conversation
    state: State = "waiting"
    answer: Answer | None = None
    looking: Looking | None = None


class Ticket:
    """The right to answer one question; stopping it asks whoever answers to end."""

    def __init__(self) -> None:
        self.is_stopped = False
        self.has_started = False


class Desk:
    """One study, one conversation, at most one question at a time. Every method may be called from any thread."""

    def __init__(self, turns: int, language: Language) -> None:
        self.session = uuid4().hex
        self.language: Language = language
        self.is_open = False
        self.study: Study | None = None
        self.preview = ""
        self.questions: Mapping[Language, Sequence[str]] | None = None
        self.region: Box | None = None
        self.conversation = Conversation(limit=turns)
        self.exchanges: tuple[Exchange, ...] = ()
        self.trouble: Exception | None = None
        self.drafts = 0
        self.draft = ""
        self._ticket: Ticket | None = None
        self.lock = threading.RLock()

    def __deepcopy__(self, memo: dict[int, object]) -> "Desk":
        """Gradio copies the first desk for every session: each gets an empty one of its own."""
        return Desk(self.conversation.limit, self.language)

    @property
    def last(self) -> Answer | None:
        """The newest answer, also one that is still growing."""
        return next((e.answer for e in reversed(self.exchanges) if e.answer), None)

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

    def place(self, study: Study | None, preview: str = "", questions: Mapping[Language, Sequence[str]] | None = None) -> None:
        """A new image (or none) with what the page shows of it: all under way is stopped, a new conversation begins."""
        with self.lock:
            self.clear()
            self.study, self.preview, self.questions, self.region = study, preview, questions, None

    def clear(self) -> None:
        """Forget the conversation and keep the image."""
        with self.lock:
            self.stop()
            self._ticket = None
            self.conversation, self.exchanges, self.trouble = self.conversation.cleared(), (), None
            self.session = uuid4().hex

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
            waiting = Exchange(self.conversation.asked + 1, question.strip(), self.conversation)
            self.exchanges = (*self.exchanges, waiting)
            self._write("")
            return self._ticket

    def begin(self) -> tuple[Ticket, Exchange] | None:
        """The question that waits for an answer, if it still does."""
        with self.lock:
            if self._ticket is None or self._ticket.has_started:
                return None
            self._ticket.has_started = True
            return self._ticket, self.exchanges[-1]

    def keep(self, ticket: Ticket, step: Answer | Looking) -> bool:
        """Keep what there is of the answer; False when nobody wants it any more."""
        with self.lock:
            if self._ticket is not ticket:
                return False
            exchange = replace(self.exchanges[-1], state="answering")
            if isinstance(step, Answer):
                self.conversation = step.conversation
                exchange = replace(exchange, answer=step, looking=None)
            else:
                exchange = replace(exchange, looking=step)
            self.exchanges = (*self.exchanges[:-1], exchange)
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
                return
            ends: dict[str | None, State] = {"stop": "done", "length": "cut", None: "stopped"}
            self.exchanges = (*self.exchanges[:-1], replace(exchange, state=ends[exchange.answer.finish]))

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

    def _write(self, draft: str) -> None:
        self.drafts, self.draft = self.drafts + 1, draft


def inside(box: Box, size: tuple[int, int]) -> Box:
    """The part of `box` on an image of (width, height). Raises RequestError when there is none."""
    try:
        return box.clipped(size)
    except ValueError:
        raise RequestError("outside_image", "The box lies outside the image.") from None
