"""The report: four sections about a study, written by the model, held against the evidence, and never without its notice.

Knows sections, the assistant and the support check. Does not know pages, files or how a report is exported.
"""

import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast

from chat.assistant import Answer, Assistant, Looking, Request
from chat.conversation import Conversation, Turn
from chat.engine.base import EngineError, Sampling
from chat.report.check import Mark, check, clean, is_in_language, is_repetitive, split_sentences
from chat.report.rules import rule_sentences
from chat.report.words import CONTINUE, NOTICE
from chat.wording import SECTIONS, Language, section_prompt
from vision.evidence import ITEMS, Evidence
from vision.study import Study

log = logging.getLogger(__name__)

LEAST, MOST = 2, 3
"""Sentences per section: so 8 to 12 in the four."""
CONTINUATIONS = 2
"""How often a section that the token limit cut is taken up again."""

Replaced = Literal["empty", "wrong_language", "repeats", "never_ended", "engine_failed", "not_asked"]
Ended = Literal["cut", "shortened"]


@dataclass(frozen=True)
class Sentence:
    """One sentence; `marks` say what the evidence does not carry, `by_rule` that no model wrote it."""

    text: str
    marks: tuple[Mark, ...] = ()
    by_rule: bool = False


@dataclass(frozen=True)
class Section:
    """One of `SECTIONS`; `mark` says why rules wrote it instead of the model, or why it ends where it does."""

    name: str
    sentences: tuple[Sentence, ...]
    mark: Replaced | Ended | None = None

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


@dataclass(frozen=True)
class Report:
    """A report so far. `trouble` is why the engine, or the writer, could not write all of it."""

    language: Language
    evidence: Evidence | None
    models: tuple[str, ...]
    seed: int | None
    sections: tuple[Section, ...] = ()
    trouble: EngineError | None = None
    is_finished: bool = False

    @property
    def notice(self) -> str:
        """That this is no diagnosis: part of every report, however it came about."""
        return NOTICE[self.language]

    @property
    def written_by(self) -> Literal["model", "rules", "both"]:
        by_rule = {sentence.by_rule for section in self.sections for sentence in section.sentences}
        return "both" if len(by_rule) == 2 else "rules" if True in by_rule or not by_rule else "model"


def write_report(
    assistant: Assistant,
    study: Study,
    evidence: Evidence | None,
    language: Language,
    sampling: Sampling = Sampling(),
    session: str = "report",
) -> Iterator[Report]:
    """The growing report, section by section; closing the iterator stops the engine, and the last Report holds what there is.

    The finished one has four sections of two or three sentences each. An engine that fails raises nothing: the
    rules write what is left, and `trouble` says why. What is no radiograph is not asked about at all.
    """
    started = time.perf_counter()
    models = tuple(engine.name for engine in (assistant.engine, assistant.writer) if engine)
    report = Report(language, evidence, models, sampling.seed)
    is_film = evidence is None or "not_a_radiograph" not in evidence.notes
    yield report
    for name in SECTIONS:
        rules = rule_sentences(name, study, evidence, language)
        section = _by_rule(name, rules, "engine_failed" if is_film else "not_asked")
        if is_film and report.trouble is None:
            job = _Job(name, assistant, study, evidence, language, sampling, session)
            said = {sentence.text for earlier in report.sections for sentence in earlier.sentences}
            try:
                draft = _Draft((), "")
                for draft in _draft(job):
                    yield replace(report, sections=(*report.sections, _growing(job, draft)))
                section = _finish(job, draft, rules, said)
            except EngineError as error:
                report = replace(report, trouble=error.with_traceback(None))
        report = replace(report, sections=(*report.sections, section))
        yield report
    log.info("report %s", {"written by": report.written_by, "seconds": round(time.perf_counter() - started, 1)})
    yield replace(report, is_finished=True)


@dataclass(frozen=True)
class _Job:
    name: str
    assistant: Assistant
    study: Study
    evidence: Evidence | None
    language: Language
    sampling: Sampling
    session: str


@dataclass(frozen=True)
class _Draft:
    """What a model has said of one section: whole sentences, what follows them, and how it ended."""

    whole: tuple[str, ...]
    rest: str
    finish: str | None = None

    @property
    def is_enough(self) -> bool:
        return len(self.whole) > MOST or (len(self.whole) == MOST and bool(self.rest or self.finish))


def _draft(job: _Job) -> Iterator[_Draft]:
    """The section as the model writes it, taken up again when the token limit cuts it, ended when it is long enough.

    What is fed back ends with a sentence, or at least with a word, so that the model goes on where words begin.
    """
    question = asked = section_prompt(job.name, job.language)
    conversation, kept = Conversation(), ""
    for _ in range(1 + CONTINUATIONS):
        request = Request(asked, job.sampling, job.language, job.evidence.items if job.evidence else ITEMS, crops=False)
        asking = job.assistant.ask(request, job.study, conversation, job.session, job.evidence)
        steps = cast(Generator[Answer | Looking, None, None], asking)
        draft, turn = _Draft(*_read(kept)), Turn(question, kept)
        try:
            for step in steps:
                if isinstance(step, Answer) and step.trouble:
                    raise step.trouble
                if isinstance(step, Answer) and step.is_written:
                    turn = step.conversation.turns[-1]
                    draft = _Draft(*_read(f"{kept} {step.text}"), step.finish)
                yield draft
                if draft.is_enough:
                    return
        finally:
            steps.close()
        if draft.finish != "length":
            return
        kept = " ".join(draft.whole) or draft.rest.rpartition(" ")[0] or draft.rest
        ids = turn.ids if turn.observations else ()  # an answer's own ids are of more than what is kept
        conversation = Conversation().with_turn(replace(turn, question=question, answer=kept, ids=ids))
        asked = CONTINUE[job.language]


def _read(text: str) -> tuple[tuple[str, ...], str]:
    whole, rest = split_sentences(clean(text))
    return tuple(whole), rest


def _growing(job: _Job, draft: _Draft) -> Section:
    told = [Sentence(text, check(text, job.evidence, job.language)) for text in draft.whole[:MOST]]
    if draft.rest and len(told) < MOST:
        told.append(Sentence(draft.rest))
    return Section(job.name, tuple(told))


def _finish(job: _Job, draft: _Draft, rules: tuple[str, ...], said: set[str]) -> Section:
    """The section as it stays: checked, two or three sentences long, or the rules' where the model's is no section."""
    texts = list(draft.whole)
    is_cut = draft.finish == "length" and not draft.is_enough
    if draft.rest and not is_cut:
        texts.append(draft.rest)
    if fault := _fault(texts[:MOST], is_cut, job.language, said):
        return _by_rule(job.name, rules, fault)
    kept = list(dict.fromkeys(texts[:MOST]))  # a sentence that comes twice says it once
    told = [Sentence(text, check(text, job.evidence, job.language)) for text in kept]
    spare = (Sentence(text, by_rule=True) for text in reversed(rules) if text not in kept)
    while len(told) < LEAST:
        told.append(next(spare))
    is_shortened = len(texts) > MOST or (draft.finish == "length" and not is_cut)
    return Section(job.name, tuple(told), "shortened" if is_shortened else "cut" if is_cut else None)


def _fault(texts: list[str], is_cut: bool, language: Language, said: set[str]) -> Replaced | None:
    if not any(character.isalpha() for text in texts for character in text):
        return "never_ended" if is_cut else "empty"
    if not is_in_language(texts, language):
        return "wrong_language"
    return "repeats" if is_repetitive(texts) or said.issuperset(texts) else None


def _by_rule(name: str, rules: tuple[str, ...], mark: Replaced) -> Section:
    return Section(name, tuple(Sentence(text, by_rule=True) for text in rules), mark)
