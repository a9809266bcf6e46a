"""Grades: what answers to records are worth, per kind of question, with intervals over patients; folds; two blind controls.

Knows text and statistics. Does not know models, images or files.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline

from finetune.metrics import bootstrap
from finetune.record_formats import Record
from finetune.records import RecordError

YES: dict[str, tuple[str, ...]] = {"en": ("Yes",), "ko": ("예", "네")}
NO: dict[str, tuple[str, ...]] = {"en": ("No",), "ko": ("아니오", "아니요")}
_YES = re.compile(rf"\W*(?:{'|'.join((*YES['en'], *YES['ko']))})(?![^\W_])", re.IGNORECASE)
_NO = re.compile(rf"\W*(?:{'|'.join((*NO['en'], *NO['ko']))})(?![^\W_])", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
_ARTICLES = {"a", "an", "the"}

Verdict = Literal["yes", "no"]
Figures = dict[str, tuple[float, float, float]]
"""By measure: the value, and the ends of its 95 % interval."""


@dataclass(frozen=True)
class Graded:
    """One answer against its reference. `truth` is None for an open question, which has its token F1 as `share`."""

    patient: str
    kind: str
    truth: Verdict | None
    share: float


def verdict_of(answer: str) -> Verdict | None:
    """The yes or no that an answer begins with, in English or Korean."""
    return "yes" if _YES.match(answer) else "no" if _NO.match(answer) else None


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, without case, punctuation and articles (Rajpurkar et al. 2016)."""
    said, wanted = (
        Counter(word for word in _WORD.findall(text.lower()) if word not in _ARTICLES) for text in (answer, reference)
    )
    shared = (said & wanted).total()
    return 2 * shared / (said.total() + wanted.total()) if shared else float(not said and not wanted)


def grade(record: Record, answer: str) -> Graded:
    """The record's last answer is the reference; a closed one is right when both begin with the same yes or no."""
    reference = record.turns[-1].answer
    truth = verdict_of(reference)
    share = token_f1(answer, reference) if truth is None else float(verdict_of(answer) == truth)
    return Graded(record.patient, record.kind or "other", truth, share)


def majority(records: Sequence[Record], taught: Sequence[Record]) -> list[str]:
    """To each record the commonest answer of the taught records of its sort: closed or open, kind and language.

    Where none is like it, the commonest of the records themselves, which flatters this control.
    """
    said: dict[object, Counter[str]] = {}
    for record in (*(taught or records), *records):
        said.setdefault(_sort(record), Counter())
    for record in taught or records:
        said[_sort(record)][record.turns[-1].answer] += 1
    for record in records:
        if not said[_sort(record)]:
            said[_sort(record)] = Counter(other.turns[-1].answer for other in records if _sort(other) == _sort(record))
    return [said[_sort(record)].most_common(1)[0][0] for record in records]


def by_words(records: Sequence[Record], taught: Sequence[Record]) -> list[str]:
    """As `majority`, but closed questions are answered by a logistic regression on their words and pairs of words.

    What the taught questions give away to a reader who sees no image. Where they hold only yes or only no: the majority.
    """
    found = majority(records, taught)
    closed = [(r.turns[-1].question, side) for r in taught if (side := verdict_of(r.turns[-1].answer))]
    places = [place for place, record in enumerate(records) if verdict_of(record.turns[-1].answer)]
    if places and len({side for _, side in closed}) == 2:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
        model: Any = make_pipeline(words, LogisticRegression(class_weight="balanced", max_iter=1000))
        model.fit(*zip(*closed, strict=True))
        for place, side in zip(places, model.predict([records[place].turns[-1].question for place in places]), strict=True):
            found[place] = side
    return found


def folds_of(records: Sequence[Record], count: int, seed: int) -> list[int]:
    """Of each record the fold, from 0, that it is held out of; a patient's records stand in one.

    Raises RecordError where there are fewer patients than folds.
    """
    patients, found = [record.patient for record in records], [0] * len(records)
    if not 2 <= count <= len(set(patients)):
        raise RecordError(f"{len(set(patients))} patients cannot make {count} folds. Choose from 2 to that many.")
    parts: Any = GroupKFold(count, shuffle=True, random_state=seed).split(patients, groups=patients)
    for fold, (_, held_out) in enumerate(parts):
        for place in held_out:
            found[place] = fold
    return found


def _sort(record: Record) -> tuple[bool, str, str]:
    is_closed = verdict_of(record.turns[-1].answer) is not None
    return is_closed, "" if is_closed else record.kind, record.language


def measures(graded: Sequence[Graded], among: NDArray[np.intp]) -> dict[str, float | None]:
    """`closed` is balanced accuracy, `open` mean token F1, each also per kind; None where a class is missing."""
    chosen = [graded[i] for i in among]
    found: dict[str, float | None] = {}
    for name in ("", *sorted({each.kind for each in graded})):
        mine = [each for each in chosen if not name or each.kind == name]
        open_shares = [each.share for each in mine if each.truth is None]
        sides = [[each.share for each in mine if each.truth == side] for side in ("yes", "no")]
        tail = f": {name}" if name else ""
        found[f"closed{tail}"] = float(np.mean([np.mean(side) for side in sides])) if all(sides) else None
        found[f"open{tail}"] = float(np.mean(open_shares)) if open_shares else None
    return found


def figures(graded: Sequence[Graded], less: Sequence[Graded] | None = None, seed: int = 0) -> Figures:
    """Every measure with its interval, or its lead over the answers `less` to the same records; patients are drawn."""

    def measure(among: NDArray[np.intp]) -> dict[str, float | None]:
        own = measures(graded, among)
        other = measures(less, among) if less is not None else {}
        return {
            name: None if value is None or (under := other.get(name, 0.0)) is None else value - under
            for name, value in own.items()
        }

    whole = measure(np.arange(len(graded)))
    ends = bootstrap(measure, [each.patient for each in graded], seed=seed)
    return {name: (value, *ends[name]) for name, value in whole.items() if value is not None and name in ends}


def table(systems: Mapping[str, Figures], leads: Mapping[str, Figures]) -> list[str]:
    """Markdown: a row per measure, a column per system and per lead."""
    heads = [*systems, *leads]
    names = sorted({name for found in systems.values() for name in found}, key=lambda name: (":" in name, name))
    lines = [f"| measure | {' | '.join(heads)} |", f"|---{'|---:' * len(heads)}|"]
    for name in names:
        cells = [
            f"{f[0]:.3f} ({f[1]:.3f} to {f[2]:.3f})" if (f := {**systems, **leads}[head].get(name)) else "" for head in heads
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
