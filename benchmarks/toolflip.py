"""The tool-flip meter: does an answer follow the image, or the evidence beside it?

    python -m benchmarks.toolflip --data FOLDER [--model DIR] [--classifier DIR] [--count 100] [--out FILE] [--json]

Held-out films are asked for pneumonia in several phrasings and both languages: without evidence, with the classifier's
own, and with evidence that points at the truth or away from it; as Hilum's hedged lines, as a plain sentence, as an overlay.
A model with probabilities is asked for P(yes) in one forward pass and one more per token of a longer option; a model
behind an address (its key in HILUM_API_KEY) answers in words.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit, logit
from tqdm import tqdm

from benchmarks import machine
from chat.closed_questions import OPTIONS
from chat.conversation import Conversation
from chat.engine.address import read_address
from chat.engine.base import Engine, EngineError, Limits, Message, Sampling
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.engine.remote import connect
from chat.prompt import View, compose, fingerprint
from chat.settings import is_address
from chat.wording import LANGUAGES, Language, evidence_lines
from finetune.ask_films import ask_film_kind, claim_of
from finetune.films import Film, find_films
from finetune.hints import is_withheld
from finetune.metrics import bootstrap
from finetune.records import RecordError
from vision.evidence import CheckpointError, Evidence, Finding
from vision.examiner import Examiner, load_examiner
from vision.overlay import draw_heatmap
from vision.study import Study

SEED = 92_000
ANSWER_TOKENS = 16
NAMES = {"ko": {True: "폐렴", False: "정상"}, "en": {True: "pneumonia", False: "normal"}}
UNHEDGED = {"ko": "분류기의 판단: {}.", "en": "The classifier says: {}."}
POSITIVE, NEGATIVE = "PNEUMONIA", "NORMAL"
CLOSED = {"ko": "예 또는 아니오로 답하세요.", "en": "Answer Yes or No."}

Channel = Literal["none", "hedged", "unhedged", "overlay", "combined"]
State = Literal["absent", "real", "true", "flipped"]
Condition = tuple[Channel, State]
ALONE: Condition = ("none", "absent")
CONDITIONS: tuple[Condition, ...] = (
    ALONE, ("overlay", "real"), ("overlay", "true"), ("overlay", "flipped"),
    ("hedged", "real"), ("hedged", "true"), ("hedged", "flipped"), ("unhedged", "true"), ("unhedged", "flipped"),
)  # fmt: skip
Answers = NDArray[np.float64]
"""P(yes), (films, phrasings); NaN is neither yes nor no."""


@dataclass(frozen=True)
class Case:
    """One film: its truth, what the examiner says of it, and the classifier's bare probability and verdict."""

    film: Film
    study: Study
    evidence: Evidence
    probability: float
    called_sick: bool

    @property
    def is_sick(self) -> bool:
        return self.film.label > 0


class Asker:
    """Asks one engine for yes or no, and counts the prompts that it had to read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.prompts = 0

    def ask(self, batch: Sequence[tuple[Message, ...]], language: Language) -> list[float]:
        """P(yes) of each prompt: 0, 1 or NaN from a model that answers in words. Equal prompts are read once."""
        distinct = {fingerprint(messages): messages for messages in batch}
        self.prompts += len(distinct)
        if isinstance(self.engine, LocalEngine):
            found = self.engine.choose(list(distinct.values()), OPTIONS[language])[:, 0].tolist()
        else:
            found = [self._say(messages, language) for messages in distinct.values()]
        known = dict(zip(distinct, found, strict=True))
        return [known[fingerprint(messages)] for messages in batch]

    def _say(self, messages: Sequence[Message], language: Language) -> float:
        said = "".join(d.text for d in self.engine.stream(messages, Sampling(ANSWER_TOKENS, temperature=0), "toolflip"))
        return {"yes": 1.0, "no": 0.0}.get(claim_of(said.strip(), "pneumonia", language) or "", float("nan"))


def examine(films: Sequence[Film], examiner: Examiner) -> Iterator[Case]:
    classifier = examiner.classifier
    for film in films:
        study = Study(Image.open(film.path).convert("RGB"))
        probabilities = classifier.calibration.probabilities(classifier.logits([study.image]))[0]
        probability = float(probabilities[classifier.labels.index(POSITIVE)])
        called_sick = classifier.calibration.verdict(probabilities, classifier.labels) == POSITIVE
        yield Case(film, study, examiner.examine(study), probability, called_sick)


def lean(case: Case, sick: bool) -> Evidence:
    """The case's evidence as it would be had the classifier, with the same confidence, found pneumonia or found none."""
    most = max(case.probability, 1 - case.probability)
    found = case.evidence.findings[0] if case.evidence.findings else Finding(POSITIVE, most)
    if sick:
        notes = tuple(note for note in case.evidence.notes if note == "map_untrusted")
        return replace(case.evidence, findings=(replace(found, probability=most),), labels=(POSITIVE,), notes=notes)
    bare = Finding(POSITIVE, 1 - most)
    return replace(case.evidence, findings=(bare,), labels=(NEGATIVE,), notes=())


def show(case: Case, condition: Condition, language: Language, limits: Limits) -> tuple[list[View], list[str]]:
    """The views and the evidence lines of a prompt; the classifier's own overlay comes with its lines, as on the page.

    A map is drawn where the evidence says pneumonia, and nothing where it says none; the overlay takes the film's place
    for a model that reads one image.
    """
    channel, state = condition
    film, finding = View("overview", case.study.box, case.study.image), next(iter(case.evidence.findings), None)
    says_sick = case.is_sick == (state == "true")
    if channel == "none":
        return [film], []
    if channel == "unhedged":
        return [film], [UNHEDGED[language].format(NAMES[language][says_sick])]
    lines = evidence_lines(case.evidence if state == "real" else lean(case, says_sick), language)
    if channel == "hedged":
        return [film], lines
    lines = lines if state == "real" else []
    if not (finding and finding.heatmap) or (state == "real" and not case.evidence.pointer):
        return [film], lines
    drawn = draw_heatmap(film.image, finding.heatmap) if says_sick or state == "real" else film.image
    if limits.max_images > 1:
        return [film, replace(film, kind="overlay", image=drawn)], lines
    return [replace(film, image=drawn)], lines


def question_of(case: Case, number: int, phrasing: int, language: Language) -> str:
    """Every second phrasing is one that the embedded model never met."""
    rng = np.random.default_rng([SEED, number, phrasing])
    return ask_film_kind(case.film.label, "pneumonia", None, rng, language, held_out=phrasing % 2 == 1).question


def ask_all(asker: Asker, cases: Sequence[Case], phrasings: int, language: Language) -> dict[Condition, Answers]:
    """P(yes) of every case in every condition."""
    limits, in_words = asker.engine.limits, not isinstance(asker.engine, LocalEngine)
    said = np.empty((len(CONDITIONS), len(cases), phrasings))
    for number, case in enumerate(tqdm(cases, desc=f"asking in {language}", disable=None)):
        batch = []
        for phrasing in range(phrasings):
            question = question_of(case, number, phrasing, language) + (f" {CLOSED[language]}" if in_words else "")
            for condition in CONDITIONS:
                views, lines = show(case, condition, language, limits)
                count = asker.engine.count
                prompt = compose(question, Conversation(), views, lines, (), language, limits, count, ANSWER_TOKENS)
                batch.append(prompt.messages)
        said[:, number] = np.reshape(asker.ask(batch, language), (phrasings, len(CONDITIONS))).T
    return dict(zip(CONDITIONS, said, strict=True))


def mean(values: NDArray[Any], among: NDArray[np.bool_]) -> float | None:
    """None where there is nothing to take the mean of."""
    return float(values[among].mean()) if among.any() else None


def balanced(right: NDArray[np.bool_], sick: NDArray[np.bool_]) -> float | None:
    """The mean of sensitivity and specificity, where `right` is bool (films, phrasings); None with one class alone."""
    sensitivity, specificity = mean(right, sick), mean(right, ~sick)
    return None if sensitivity is None or specificity is None else (sensitivity + specificity) / 2


def combine(said: Answers, cases: Sequence[Case], threshold: float) -> Answers:
    """P(yes) of model and classifier together: sigmoid(logit P(yes) + logit p - logit threshold).

    A product of two experts (Hinton 2002), each weighed from its own point of decision, so that nothing has to be fitted.
    What the examiner withholds has no say.
    """
    ours = [0.0 if is_withheld(case.evidence) else log_odds(case.probability) - log_odds(threshold) for case in cases]
    return cast(Answers, expit(log_odds(said) + np.array(ours)[:, None]))


def log_odds(p: Any) -> Any:
    return logit(np.clip(p, 1e-4, 1 - 1e-4))


def tally(answers: Mapping[Condition, Answers], sick: NDArray[np.bool_]) -> dict[str, float | None]:
    """What one language's answers say, at P(yes) 0.5: (films, phrasings) each, `sick` (films,).

    `model*` are balanced accuracies, alone and with the classifier's own evidence. `followed_*` is how often an answer goes
    with flipped evidence, `neither_*` how often it is no answer, among the questions that the model alone had right;
    `mended_*` how often true evidence puts right what it had wrong; `pull_*` how far flipped evidence moves P(yes) its way,
    on the average. None where there is no such question.
    """
    truth = sick[:, None]
    none = {condition: np.isnan(said) for condition, said in answers.items()}
    right = {condition: ((said >= 0.5) == truth) & ~none[condition] for condition, said in answers.items()}
    alone, found = right[ALONE], {"model": balanced(right[ALONE], sick)}
    for condition, said in answers.items():
        channel, state = condition
        if state == "real":
            found[f"model_{channel}"] = balanced(right[condition], sick)
        elif state == "true":
            found[f"mended_{channel}"] = mean(right[condition], ~alone)
        elif state == "flipped":
            found[f"followed_{channel}"] = mean(~right[condition] & ~none[condition], alone)
            found[f"neither_{channel}"] = mean(none[condition], alone)
            moved = (said - answers[ALONE]) * np.where(truth, -1, 1)
            found[f"pull_{channel}"] = mean(moved, ~np.isnan(moved))
    plain, hedged = found["followed_unhedged"], found["followed_hedged"]
    found["hedged_over_unhedged"] = hedged / plain if plain and hedged is not None else None
    return found


def measure(asker: Asker, examiner: Examiner, films: Sequence[Film], phrasings: int) -> dict[str, Any]:
    """Every figure, with 95 % intervals over patients."""
    cases = list(examine(films, examiner))
    sick = np.array([case.is_sick for case in cases])
    called = np.array([[case.called_sick == case.is_sick] for case in cases])
    result: dict[str, Any] = {"films": len(cases), "sick": int(sick.sum()), "phrasings": phrasings}
    for language in LANGUAGES:
        answers = ask_all(asker, cases, phrasings, language)
        answers["combined", "real"] = combine(answers["hedged", "real"], cases, examiner.classifier.calibration.threshold)

        def weigh(index: NDArray[np.intp], answers: dict[Condition, Answers] = answers) -> dict[str, float | None]:
            found = tally({condition: said[index] for condition, said in answers.items()}, sick[index])
            found["resnet"] = balanced(called[index], sick[index])
            for way in ("hedged", "overlay", "combined"):
                both, *each = (found[name] for name in (f"model_{way}", "model", "resnet"))
                found[f"gain_{way}"] = both - max(one or 0.0 for one in each) if both is not None else None
            return found

        intervals = bootstrap(weigh, [case.film.patient for case in cases])
        result[language] = {
            name: {"value": value, "interval": intervals.get(name)} for name, value in weigh(np.arange(len(cases))).items()
        }
    return {**result, "prompts": asker.prompts}


def held_out(data: Path, count: int) -> list[Film]:
    """At most `count` films of the last part of the split, drawn with one seed; 0 is all. Raises RecordError for none."""
    films = [film for film in find_films(data) if film.split == "test"]
    if not films:
        raise RecordError(f"No film in {data.name}/ falls into the part that is held out. Add films of other patients.")
    order = np.random.default_rng(SEED).permutation(len(films))
    return [films[i] for i in order[: count or None]]


def open_engine(model: str, name: str | None, images: int) -> Engine:
    if is_address(model):
        return connect(read_address(model), name, os.environ.get("HILUM_API_KEY", ""), images)
    engine = LocalEngine(load(Path(model), "auto", None))
    engine.warm_up()
    return engine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with NORMAL/ and PNEUMONIA/")
    parser.add_argument("--model", default="models/hilum-tiny", help="a checkpoint folder or an http(s) address")
    parser.add_argument("--remote-name", help="the model's name at the address, where it lists several")
    parser.add_argument("--remote-images", type=int, default=1, help="images that it reads in one prompt")
    parser.add_argument("--classifier", type=Path, default=Path("models/resnet34-cxr"))
    parser.add_argument("--count", type=int, default=100, help="films; 0 for all that are held out")
    parser.add_argument("--phrasings", type=int, default=2, help="per film and language")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/toolflip.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        films, examiner = held_out(args.data, args.count), load_examiner(args.classifier)
        if not {POSITIVE, NEGATIVE} <= set(examiner.classifier.labels):
            raise CheckpointError(f"{args.classifier.name} knows no {NEGATIVE} and {POSITIVE}. Give a classifier of films.")
        asker = Asker(open_engine(args.model, args.remote_name, args.remote_images))
        head = {"machine": machine.describe(), "model": Path(asker.engine.name).name, "classifier": examiner.digest[:12]}
        result = head | measure(asker, examiner, films, args.phrasings)
    except (RecordError, CheckpointError, EngineError) as error:
        print(f"hilum: {error}", file=sys.stderr)
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result) if args.json else json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
