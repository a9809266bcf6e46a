"""The assistant: one question about one study, from views to a growing answer.

Knows studies, conversations and engines. Does not know pages, terminals or where an engine runs.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from chat.conversation import Conversation, Turn
from chat.engine.base import Engine, Sampling
from chat.prompt import SYSTEM, Prompt, View, compose, fingerprint, layout, render
from chat.wording import Language, answer_in, close_up, evidence_lines, language_of
from vision.evidence import Evidence
from vision.study import Study
from vision.tiling import Box, cut, even_tiles

NOTE_TOKENS = 48
"""How much a checkpoint that reads one image at a time may say about each crop."""

LEAST_GAIN = 1.5
"""How much larger than the model's input an image must be before tiles of it show more than the overview."""


class RequestError(Exception):
    """This question cannot be asked. `reason` names the fact; `fields` hold what the person's sentence needs."""

    def __init__(self, reason: str, message: str, **fields: int | str) -> None:
        super().__init__(message)
        self.reason = reason
        self.fields = fields


@dataclass(frozen=True)
class Request:
    """One question and how to answer it.

    `crops` lets the assistant add tiles of an image that is larger than the model's input; `regions` are the
    person's own boxes, which come before tiles. `language` None means the question's own.
    """

    question: str
    sampling: Sampling = Sampling()
    language: Language | None = None
    evidence: bool = True
    crops: bool = True
    regions: tuple[Box, ...] = ()
    system_prompt: str = SYSTEM


@dataclass(frozen=True)
class Answer:
    """The answer so far. `conversation` already holds it as its last turn, so a stopped answer is kept as it stands."""

    text: str
    finish: str | None
    conversation: Conversation
    prompt: Prompt
    prompt_text: str
    prompt_hash: str
    first_token_seconds: float
    tokens: int
    tokens_per_second: float

    @property
    def turn(self) -> int:
        """Which question about this image this was, counted from 1."""
        return self.conversation.asked

    @property
    def turns_in_window(self) -> int:
        """How many earlier turns the prompt held."""
        return len(self.prompt.turns)

    def result(self, model: str) -> dict[str, object]:
        """What the API and the command line say about this answer; the keys are a promise to others."""
        views = [{"kind": v.kind, "box": [v.box.left, v.box.top, v.box.right, v.box.bottom]} for v in self.prompt.views]
        return {
            "answer": self.text,
            "model": model,
            "turn": self.turn,
            "turns_in_window": self.turns_in_window,
            "prompt_tokens": self.prompt.tokens,
            "views": views,
            "prompt_hash": self.prompt_hash,
            "first_token_seconds": round(self.first_token_seconds, 4),
            "tokens_per_second": round(self.tokens_per_second, 2),
        }


@dataclass(frozen=True)
class Looking:
    """No answer yet: close-up number `crop` of `crops` is being looked at, for a model that reads one image at a time."""

    crop: int
    crops: int


class Assistant:
    """Answers questions about studies with one engine. `input_side` is the side of the engine's image input in pixels."""

    def __init__(self, engine: Engine, input_side: int) -> None:
        self.engine = engine
        self.input_side = input_side

    def views(self, study: Study, request: Request) -> tuple[View, ...]:
        """The overview, the person's regions, then tiles when the image is larger than the model's input."""
        crops = [View("region", tile.box, tile.image) for tile in (cut(study.image, box) for box in request.regions)]
        room = self._most_crops() - len(crops)
        if request.crops and not crops and max(study.image.size) >= LEAST_GAIN * self.input_side:
            boxes = even_tiles(study.image.size, room)
            crops = [View("tile", tile.box, tile.image) for tile in (cut(study.image, box) for box in boxes)]
        return (View("overview", study.box, study.image), *crops)

    def _most_crops(self) -> int:
        """Crops per question: what the prompt may hold, or as many passes when it holds the overview only."""
        return max(self.engine.limits.max_images - 1, 4 if self.engine.limits.max_images == 1 else 0)

    def ask(
        self, request: Request, study: Study | None, conversation: Conversation, session: str, evidence: Evidence | None = None
    ) -> Iterator[Answer | Looking]:
        """The answer as it grows; closing the iterator stops the engine and the last Answer holds what there is.

        Looking comes before it, often enough that whoever waits can show progress and stop.

        Raises RequestError for an empty question or a missing image, EngineError when the engine fails.
        """
        started = time.perf_counter()
        question = request.question.strip()
        if not question:
            raise RequestError("empty_question", "Type a question first.")
        if study is None:
            raise RequestError("no_image", "Add an image first, then ask about it.")
        language = request.language or language_of(question)
        asked = question if language == language_of(question, language) else f"{question} {answer_in(language)}"
        views = self.views(study, request)
        lines = evidence_lines(evidence, language) if evidence and request.evidence else []
        notes, given = yield from self._look_at_crops(asked, views, language, request, session)
        prompt = compose(
            asked, conversation, given, lines, notes, language,
            self.engine.limits, self.engine.count, request.sampling.max_new_tokens, request.system_prompt,
        )  # fmt: skip
        if notes:
            prompt = replace(prompt, views=views)
        yield from self._answer(asked, prompt, conversation, request, session, started)

    def _look_at_crops(
        self, question: str, views: Sequence[View], language: Language, request: Request, session: str
    ) -> Generator[Looking, None, tuple[list[str], Sequence[View]]]:
        """One pass per crop for a checkpoint that was trained on one image per prompt: notes, and the views that are left."""
        if self.engine.limits.max_images > 1 or len(views) == 1:
            return [], views
        sampling = replace(request.sampling, max_new_tokens=NOTE_TOKENS)
        notes = []
        for number, crop in enumerate(views[1:], start=1):
            messages = layout(question, (), [crop], (), (), language, request.system_prompt)
            said = ""
            yield Looking(number, len(views) - 1)
            for delta in self.engine.stream(messages, sampling, session):
                said += delta.text
                yield Looking(number, len(views) - 1)
            notes.append(f"{close_up(crop.box, views[0].image.size, language)} {said.strip()}")
        return notes, views[:1]

    def _answer(
        self, question: str, prompt: Prompt, conversation: Conversation, request: Request, session: str, started: float
    ) -> Iterator[Answer]:
        text, first = "", 0.0
        ids: tuple[int, ...] = ()
        shown, digest = render(prompt.messages), fingerprint(prompt.messages)
        for delta in self.engine.stream(prompt.messages, request.sampling, session):
            now = time.perf_counter()
            first = first or now - started
            text, ids = text + delta.text, ids + delta.ids
            turn = Turn(question, text.strip(), ids)
            decoding = now - started - first
            yield Answer(
                text.strip(), delta.finish, conversation.with_turn(turn), prompt, shown, digest,
                first, len(ids), (len(ids) - 1) / decoding if decoding > 0 and len(ids) > 1 else 0.0,
            )  # fmt: skip
