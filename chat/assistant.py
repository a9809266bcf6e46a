"""The assistant: one question about one study, from views to a growing answer.

Knows studies, conversations and engines. Does not know pages, terminals or where an engine runs.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chat.choosing import close_ups
from chat.conversation import Conversation, Turn
from chat.engine.base import Engine, EngineError, OutOfMemory, Sampling
from chat.growth import grow
from chat.line import Line
from chat.prompt import SYSTEM, Prompt, View, compose, fingerprint, layout, render
from chat.wording import Language, answer_in, close_up, evidence_lines, language_of, look_at
from chat.writer import OBSERVATION_TOKENS, as_seen, compose_brief, for_writer, without_thoughts
from vision.evidence import ITEMS, Evidence, Item
from vision.overlay import draw_heatmap
from vision.study import Study
from vision.tiling import Box, around, cut

if TYPE_CHECKING:  # torch takes seconds to import, and an engine behind an address does without it
    from vision.examiner import Examiner

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

    `crops` lets the assistant add close-ups of an image that is larger than the model's input: at the map's peak, then
    tiles; `regions` are the person's own boxes, which stand for both. `evidence` names what of the evidence the model is
    told, `overlay` shows it the map too. `language` None means the question's own.
    """

    question: str
    sampling: Sampling = Sampling()
    language: Language | None = None
    evidence: frozenset[Item] = ITEMS
    overlay: bool = False
    crops: bool = True
    regions: tuple[Box, ...] = ()
    system_prompt: str = SYSTEM

    def lets_through(self, evidence: Evidence | None) -> Evidence | None:
        """What of the evidence the model is told; None where that is nothing."""
        items = evidence.items & self.evidence if evidence else frozenset()
        return replace(evidence, items=items) if evidence and items else None


@dataclass(frozen=True)
class Answer:
    """The answer so far. `conversation` already holds it as its last turn, so a stopped answer is kept as it stands.

    With a writer, `observations` are what the engine said of the picture (None without one), and they are the text until
    the writer's words are there; `brief` is the writer's prompt, `trouble` why it did not finish. `prompt` is always the
    seeing engine's; times and tokens are of whichever speaks.
    """

    text: str
    finish: str | None
    conversation: Conversation
    prompt: Prompt
    prompt_text: str
    prompt_hash: str
    first_token_seconds: float
    tokens: int
    tokens_per_second: float
    observations: str | None = None
    brief: Prompt | None = None
    trouble: EngineError | None = None

    @property
    def is_written(self) -> bool:
        """Whether the text is the answer itself rather than what was seen on the way to it."""
        return self.text != self.observations

    @property
    def turn(self) -> int:
        """Which question about this image this was, counted from 1."""
        return self.conversation.asked

    @property
    def turns_in_window(self) -> int:
        """How many earlier turns the prompt held, and the writer's too where there is one."""
        return min(len(prompt.turns) for prompt in (self.prompt, self.brief) if prompt)

    def result(self, model: str) -> dict[str, object]:
        """What the API and the command line say about this answer; the keys are a promise to others."""
        views = [{"kind": v.kind, "box": v.box.corners} for v in self.prompt.views]
        return {
            "answer": self.text,
            "observations": self.observations,
            "writer_error": for_writer(str(self.trouble)) if self.trouble else None,
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
    """No answer yet: `ahead` others come first, or close-up number `crop` of `crops` is being looked at."""

    crop: int
    crops: int
    ahead: int = 0


@dataclass(frozen=True)
class _Case:
    """A question that can be asked, with all that it is about; `started` is when the person asked it."""

    question: str
    study: Study
    conversation: Conversation
    request: Request
    language: Language
    evidence: Evidence | None
    session: str
    started: float


class Assistant:
    """Answers questions about studies with one engine, or with one that looks and a `writer` that writes.

    `input_side` is the side of the engine's image input in pixels.
    """

    def __init__(
        self, engine: Engine, input_side: int, writer: Engine | None = None, examiner: "Examiner | None" = None
    ) -> None:
        self.engine = engine
        self.input_side = input_side
        self.writer = writer
        self.examiner = examiner
        self.line = Line((engine, writer))

    def examine(self, study: Study) -> Evidence | None:
        """What vision vouches for about a study, once per study; None without a classifier."""
        return self.examiner.examine(study) if self.examiner else None

    def views(self, study: Study, request: Request, evidence: Evidence | None = None) -> tuple[View, ...]:
        """The overview, the overlay where asked for, the person's regions; else, of an image that is larger than the
        model's input, the map's peak and what `close_ups` chooses for the question.
        """
        pointer = evidence.pointer if evidence else None
        overlays = []
        if request.overlay and pointer and pointer.heatmap and self.engine.limits.max_images > 1:
            drawn = draw_heatmap(study.image, pointer.heatmap, longest=2 * self.input_side)
            overlays = [View("overlay", study.box, drawn)]
        room = self._most_crops() - len(overlays)
        crops = [View("region", tile.box, tile.image) for tile in (cut(study.image, box) for box in request.regions)]
        if request.crops and not crops and max(study.image.size) >= LEAST_GAIN * self.input_side:
            if pointer and pointer.peak:
                tile = cut(study.image, around(pointer.peak.box, self.input_side, study.image.size))
                crops = [View("peak", tile.box, tile.image)]
            boxes = close_ups(study.image, request.question, room - len(crops), self.input_side)
            crops += [View("tile", tile.box, tile.image) for tile in (cut(study.image, box) for box in boxes)]
        return (View("overview", study.box, study.image), *overlays, *crops)

    def _most_crops(self) -> int:
        """Crops per question: what the prompt may hold, or as many passes when it holds the overview only."""
        return max(self.engine.limits.max_images - 1, 4 if self.engine.limits.max_images == 1 else 0)

    def ask(
        self, request: Request, study: Study | None, conversation: Conversation, session: str, evidence: Evidence | None = None
    ) -> Iterator[Answer | Looking]:
        """The answer as it grows; closing the iterator stops the engine and the last Answer holds what there is.

        Looking comes before it, often enough that whoever waits can show progress and stop.

        Raises RequestError for an empty question or a missing image, EngineError when the engine fails or the line does
        not let the question through. A writer that fails raises nothing: the last Answer holds what was seen, and why.
        """
        started = time.perf_counter()
        question = request.question.strip()
        if not question:
            raise RequestError("empty_question", "Type a question first.")
        if study is None:
            raise RequestError("no_image", "Add an image first, then ask about it.")
        language = request.language or language_of(question)
        told = request.lets_through(evidence)
        case = _Case(question, study, conversation, request, language, told, session, started)
        for step in self.line.lead(session, self._answer(case)):
            yield Looking(0, 0, step) if isinstance(step, int) else step

    def _answer(self, case: _Case) -> Generator[Answer | Looking, None, None]:
        if self.writer is None:
            question, language = case.question, case.language
            asked = question if language == language_of(question, language) else f"{question} {answer_in(language)}"
            yield from self._see(replace(case, question=asked))
        elif (seen := (yield from self._look(case))) and seen.text:
            yield from self._write(self.writer, seen, case)

    def _see(self, case: _Case) -> Iterator[Answer | Looking]:
        """What the engine says to the case's question; a full device is asked again, from the start, with half the views."""
        views = self.views(case.study, case.request, case.evidence)
        try:
            yield from self._say(case, views)
            return
        except OutOfMemory:
            pass
        yield from self._say(case, views[: (len(views) + 1) // 2])  # outside the handler, which holds on to frames

    def _say(self, case: _Case, views: Sequence[View]) -> Iterator[Answer | Looking]:
        request, language = case.request, case.language
        lines = evidence_lines(case.evidence, language) if case.evidence else []
        notes, given = yield from self._look_at_crops(case.question, views, language, request, case.session)
        prompt = compose(
            case.question, case.conversation, given, lines, notes, language,
            self.engine.limits, self.engine.count, request.sampling.max_new_tokens, request.system_prompt,
        )  # fmt: skip
        if notes:
            prompt = replace(prompt, views=tuple(views))
        shown, digest = render(prompt.messages), fingerprint(prompt.messages)
        for said in grow(self.engine, prompt, request.sampling, case.session, case.started):
            if not (said.text or said.finish):
                yield Looking(0, 0)
                continue
            kept = case.conversation.with_turn(Turn(case.question, said.text, said.ids))
            yield Answer(said.text, said.finish, kept, prompt, shown, digest, said.seconds, said.tokens, said.speed)

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
            for delta in self.engine.stream(messages, sampling, f"{session}/crops"):  # beside the conversation's own prefix
                said += delta.text
                yield Looking(number, len(views) - 1)
            notes.append(f"{close_up(crop.box, views[0].image.size, language)} {said.strip()}")
        return notes, views[:1]

    def _look(self, case: _Case) -> Generator[Answer | Looking, None, Answer | None]:
        """The engine's observations, in English and short: the turn's text until something better is written."""
        most = min(OBSERVATION_TOKENS, case.request.sampling.max_new_tokens)
        request = replace(case.request, sampling=replace(case.request.sampling, max_new_tokens=most))
        looking = replace(case, question=look_at(case.question), request=request, language="en")
        seen: Answer | None = None
        for step in self._see(replace(looking, conversation=as_seen(case.conversation))):
            if isinstance(step, Answer):
                turn = replace(step.conversation.turns[-1], question=case.question, observations=step.text)
                seen = replace(step, conversation=case.conversation.with_turn(turn), observations=step.text)
            yield step if seen is None else replace(seen, finish=None if seen.text else seen.finish)
        return seen

    def _write(self, writer: Engine, seen: Answer, case: _Case) -> Iterator[Answer]:
        """The writer's answer. Where it fails, what it has written stays, else what was seen."""
        answer, turn, text = seen, seen.conversation.turns[-1], ""
        hints = evidence_lines(case.evidence, case.language)[1:] if case.evidence else []
        most = case.request.sampling.max_new_tokens
        try:
            prompt = compose_brief(case.question, case.conversation.turns, seen.text, hints, case.language, writer, most)
            answer = replace(seen, finish=None, brief=prompt)
            yield answer
            for said in grow(writer, prompt, case.request.sampling, case.session, case.started):
                text = without_thoughts(said.text)
                kept = case.conversation.with_turn(replace(turn, answer=text or seen.text))
                answer = replace(
                    answer, text=text or seen.text, finish=said.finish, conversation=kept,
                    first_token_seconds=said.seconds, tokens=said.tokens, tokens_per_second=said.speed,
                )  # fmt: skip
                yield answer
            if not text:
                raise EngineError("The writer gave an empty answer.")
        except EngineError as error:
            yield replace(answer, finish=answer.finish if text else seen.finish, trouble=error.with_traceback(None))
