"""The sheet: what every export of a report shows, as plain text, numbers and one picture.

Knows reports and their words. Does not know file formats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from chat.report.check import clean
from chat.report.rules import name_label, percent, shown_probabilities
from chat.report.words import BESIDE, MARKS, TITLES, WRITTEN_BY
from chat.report.write import Report, Section, Sentence
from chat.wording import Language
from vision.evidence import Evidence
from vision.overlay import draw_heatmap
from vision.study import Study

LARGEST_SIDE = 1200
"""Pixels; an overlay is shrunk to this, for a report is read on a page and an image may have 200 million."""


@dataclass(frozen=True)
class Weights:
    """A model that had a part in the report, and the SHA-256 of its weights where they are on this machine."""

    name: str
    sha256: str | None = None


@dataclass(frozen=True)
class Line:
    """One sentence, and what has to be said beside it, if anything."""

    text: str
    beside: str = ""


@dataclass(frozen=True)
class Part:
    """One section."""

    title: str
    lines: tuple[Line, ...]
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """One label with its probability, 0 to 1, and that in words."""

    label: str
    share: float
    told: str


@dataclass(frozen=True)
class Sheet:
    """All of it, in one language; `words` are that language's titles."""

    language: Language
    notice: str
    parts: tuple[Part, ...]
    bars: tuple[Bar, ...]
    facts: tuple[tuple[str, str], ...]
    picture: Image.Image | None
    ending: str = ""

    @property
    def words(self) -> dict[str, str]:
        return TITLES[self.language]


def overlay_of(study: Study, evidence: Evidence | None) -> Image.Image | None:
    """The image under the map that the report may speak of; None where there is none."""
    pointer = evidence.pointer if evidence else None
    return draw_heatmap(study.image, pointer.heatmap) if pointer and pointer.heatmap else None


def lay_out(report: Report, overlay: Image.Image | None = None, weights: Sequence[Weights] = ()) -> Sheet:
    """The sheet of a report, finished or stopped; text is cleaned, and the picture is RGB without metadata."""
    language = report.language
    words = TITLES[language]
    bars = (
        Bar(name_label(label, language), p, percent(p, language)) for label, p in shown_probabilities(report.evidence).items()
    )
    facts = [(words["written_by"], WRITTEN_BY[language][report.written_by])]
    facts += [(words["model"], clean(w.name + (f" (SHA-256 {w.sha256})" if w.sha256 else ""))) for w in used(report, weights)]
    facts += [(words["seed"], str(report.seed))] if report.seed is not None else []
    parts = tuple(_part(section, language) for section in report.sections)
    ending = "" if report.is_finished else MARKS[language]["stopped"]
    return Sheet(language, report.notice, parts, tuple(bars), tuple(facts), _picture(overlay), ending)


def used(report: Report, weights: Sequence[Weights]) -> Sequence[Weights]:
    """The weights that were named, else the models that the report itself knows of."""
    return weights or [Weights(name) for name in report.models]


def _part(section: Section, language: Language) -> Part:
    is_ruled = all(sentence.by_rule for sentence in section.sentences)
    lines = tuple(Line(clean(s.text), "" if is_ruled else _beside(s, language)) for s in section.sentences)
    return Part(TITLES[language][section.name], lines, MARKS[language][section.mark] if section.mark else "")


def _beside(sentence: Sentence, language: Language) -> str:
    notes = [MARKS[language][mark] for mark in sentence.marks]
    told = [BESIDE[language].format(notes="; ".join(notes))] if notes else []
    return " ".join(told + [f"[{MARKS[language]['by_rule']}]"] * sentence.by_rule)


def _picture(overlay: Image.Image | None) -> Image.Image | None:
    if overlay is None:
        return None
    picture = overlay.convert("RGB")
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    picture.info.clear()
    return picture
