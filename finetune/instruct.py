"""Instructions: reports to questions, cleaned, and questions to answers, cleaned, as records to teach with.

Knows prompts and the order of work. Does not know how an engine answers or how what is paid for is kept.

    python -m finetune.instruct reports.jsonl --out records.jsonl --base-url http://127.0.0.1:8000 --model NAME --language both
    python -m finetune.instruct reports.jsonl --out records.jsonl --model FOLDER         # a checkpoint on this machine
    python -m finetune.instruct reports.jsonl --out records.jsonl --templates            # without a language model
    python -m finetune.instruct --labels FILMS --masks PAIRS --out records.jsonl --templates     # about images

reports.jsonl is what `python -m finetune.reports` writes. Every answer of the model is kept in OUT.paid.jsonl as it comes: the
same command after a kill goes on from there and pays for nothing twice. An address outside this machine is sent the reports.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from chat.engine.base import Engine, Message, Sampling
from chat.wording import LANGUAGES, Language
from finetune.asking import Job, Pace, add_engine_flags, ask_all, guarded, job, log, open_engine, pace_of
from finetune.instruct_clean import answer_flaw, question_flaw
from finetune.instruct_templates import ask_labels, ask_masks, ask_report
from finetune.jsonl import Ledger, claim, read_objects, write_config
from finetune.record_files import write_as
from finetune.record_formats import Exchange, Record
from finetune.records import RecordError
from finetune.report_headings import SECTIONS

KINDS = ("summary", "finding", "location", "negation", "comparison", "recommendation", "plain language")
_SYSTEM = "You are a radiologist who writes teaching material. You rely on nothing but the report that you are given."
_NAMES: dict[Language, str] = {"en": "English", "ko": "Korean"}
_ASK = (
    "Report:\n{report}\n\nWrite questions about this report in {language}, one per line, each as `kind: question`, one for "
    "each kind:\n{kinds}\nEach line holds a single question, does not give its answer away, and the report can answer it. "
    "Leave out a kind that the report is silent about. Write nothing else."
)
_ANSWER = (
    "Report:\n{report}\n\nAnswer in {language}, in one to three sentences, from this report alone.\n\nQuestion: {question}"
)
_MEANING = {
    "summary": "what the study shows on the whole", "finding": "one abnormality or structure", "location": "where a thing lies",
    "negation": "something that is absent", "comparison": "what changed since an earlier study",
    "recommendation": "what to do next", "plain language": "an explanation for a patient",
}  # fmt: skip
_LINE = re.compile(
    rf"^[\W\d_]*(?P<kind>{'|'.join(KINDS)}|plain_language)[\W_]*?[:：\-–]\W*(?P<question>\S.*)$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True)
class Cut:
    """A report in its sections, as `finetune.reports` writes it."""

    id: str
    patient: str
    sections: dict[str, str]

    @property
    def text(self) -> str:
        return "\n\n".join(f"{name}: {body}" for name, body in self.sections.items())


@dataclass(frozen=True)
class Asked:
    """A question that was kept."""

    report: Cut
    language: Language
    kind: str
    question: str


def read_cuts(path: Path) -> list[Cut]:
    """The reports of a file that say anything. Raises RecordError with file, line and field."""
    found, seen, empty = [], set[str](), 0
    for number, row in read_objects(path):
        name, parts = row.get("id"), row.get("sections")
        field = "id" if not isinstance(name, str) or not name or name in seen else None
        is_right = isinstance(parts, dict) and all(key in SECTIONS and isinstance(body, str) for key, body in parts.items())
        if field or not is_right:
            told = (
                "sections: it must map section names to text"
                if is_right is False and not field
                else "id: it is missing or there twice"
            )
            raise RecordError(f"{path.name}, line {number}, field {told}. Write the file with python -m finetune.reports.")
        seen.add(str(name))
        empty += not parts
        found += [Cut(str(name), str(row.get("patient") or name), dict(parts or {}))] if parts else []
    if not found:
        raise RecordError(f"{path.name} holds no report with a section ({empty} are empty). Name a file with reports.")
    return found


def parse_questions(text: str) -> Iterator[tuple[str, str]]:
    """Kind and question of every line that holds both, whatever list or JSON a model wraps them in."""
    for match in _LINE.finditer(text):
        question = re.sub(r"[\s\"'`,}\]*]+$", "", match["question"]).strip()
        if question:
            yield match["kind"].lower().replace("_", " "), question


class Writer:
    """Both stages over one ledger; `flaws` counts what was cleaned away and why."""

    def __init__(self, engine: Engine, ledger: Ledger, pace: Pace, seed: int) -> None:
        self._engine, self._ledger, self._pace, self._seed = engine, ledger, pace, seed
        self.flaws: Counter[str] = Counter()

    def _said(self, jobs: Sequence[Job], what: str) -> list[dict[str, Any] | None]:
        ask_all(jobs, self._engine, self._ledger, self._pace, what, self._seed)
        return [self._ledger.paid.get(each.key) for each in jobs]

    def ask(self, reports: Sequence[Cut], languages: Sequence[Language]) -> list[Asked]:
        """The questions about each report that are worth an answer."""
        wanted = [(report, language) for report in reports for language in languages]
        kinds = "\n".join(f"{kind}: {_MEANING[kind]}" for kind in KINDS)
        jobs = [
            self._job(_ASK.format(report=report.text, language=_NAMES[language], kinds=kinds), 700)
            for report, language in wanted
        ]
        kept: list[Asked] = []
        for (report, language), line in zip(wanted, self._said(jobs, "questions"), strict=True):
            asked = list(parse_questions(line["text"])) if line else []
            self.flaws["question: none in the reply"] += bool(line) and not asked
            mine: list[str] = []
            for kind, question in asked:
                if flaw := question_flaw(question, report.text, language, mine):
                    self.flaws[f"question: {flaw}"] += 1
                    continue
                mine.append(question)
                kept.append(Asked(report, language, kind, question))
        return kept

    def answer(self, asked: Sequence[Asked]) -> Iterator[Record]:
        """A record for every question whose answer is worth teaching."""
        jobs = [
            self._job(_ANSWER.format(report=each.report.text, language=_NAMES[each.language], question=each.question), 400)
            for each in asked
        ]
        for number, (each, line) in enumerate(zip(asked, self._said(jobs, "answers"), strict=True)):
            if line is None:
                continue
            answer = line["text"].strip()
            if flaw := answer_flaw(each.question, answer, line["finish"], each.language):
                self.flaws[f"answer: {flaw}"] += 1
                continue
            name, turn = f"{each.report.id}-{each.language}-{number}", Exchange(each.question, answer)
            yield Record(
                name, each.report.patient, (turn,), None, each.report.text, each.kind, each.language, self._engine.name
            )

    def _job(self, task: str, tokens: int) -> Job:
        messages = (Message("system", (_SYSTEM,)), Message("user", (task,)))
        return job(self._engine, messages, Sampling(tokens, temperature=0.7, top_p=0.95, seed=self._seed))


def with_model(args: argparse.Namespace, languages: Sequence[Language]) -> Iterator[Record]:
    """Records by a language model. Raises EngineError; what was paid for until then is kept."""
    reports = read_cuts(args.reports)
    engine = open_engine(args.base_url, args.model)
    ledger = Ledger(args.out.with_name(f"{args.out.name}.paid.jsonl"))
    try:
        writer = Writer(engine, ledger, pace_of(args), args.seed)
        yield from writer.answer(writer.ask(reports, languages))
        log.info("cleaned away: %s", dict(sorted(writer.flaws.items())) or "nothing")
    finally:
        ledger.close()
        engine.close()


def with_templates(args: argparse.Namespace, languages: Sequence[Language]) -> Iterator[Record]:
    """Records by fixed phrases. Raises RecordError."""
    for report in tqdm(read_cuts(args.reports) if args.reports else [], desc="reports", disable=None, leave=False):
        earlier: list[str] = []
        for record in ask_report(report.id, report.patient, report.sections, languages, args.seed):
            turn, language = record.turns[0], languages[languages.index(record.language)]
            is_flawed = question_flaw(turn.question, "", language, earlier) or answer_flaw(
                turn.question, turn.answer, "stop", language
            )
            if not is_flawed:
                earlier.append(turn.question)
                yield record
    if args.labels:
        yield from ask_labels(args.labels, args.out, languages, args.seed)
    if args.masks:
        yield from ask_masks(args.masks, args.out, languages, args.seed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.instruct", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", type=Path, nargs="?", help="what python -m finetune.reports wrote")
    parser.add_argument("--out", type=Path, required=True, help="the records to write")
    parser.add_argument("--language", choices=(*LANGUAGES, "both"), default="en")
    parser.add_argument("--templates", action="store_true", help="fixed phrases in place of a language model")
    parser.add_argument("--labels", type=Path, help="with --templates: a folder with NORMAL/ and PNEUMONIA/")
    parser.add_argument("--masks", type=Path, help="with --templates: a folder with images/ and masks/ of lungs")
    parser.add_argument("--seed", type=int, default=0)
    add_engine_flags(parser)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> None:
    languages: Sequence[Language] = LANGUAGES if args.language == "both" else (args.language,)
    if not args.templates and (args.labels or args.masks or not args.reports):
        raise RecordError("A language model needs a file of reports. Name one, or ask about images with --templates.")
    if not (args.reports or args.labels or args.masks):
        raise RecordError("There is nothing to ask about. Name a file of reports, --labels or --masks.")
    with claim(args.out):
        made: Iterable[Record] = with_templates(args, languages) if args.templates else with_model(args, languages)
        records = list(made)
        if not records:
            raise RecordError(
                "Nothing was left to teach after cleaning. Try another model, or look at what it wrote beside --out."
            )
        write_config(args.out, {"command": "instruct", **vars(args)})  # now the address is known to hold no password
        write_as(args.out, records, "records")
        log.info(
            "%d records: %s", len(records), json.dumps(dict(Counter(record.kind for record in records)), ensure_ascii=False)
        )


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
