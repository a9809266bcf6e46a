"""Translation: the sections of reports in Korean, by a language model, as far as what it writes can be believed.

Knows the prompt and what must survive a translation. Does not know files or how an engine answers.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from chat.engine.base import Engine, Message, Sampling
from finetune.asking import Job, Pace, ask_all, job, log
from finetune.instruct_clean import answer_flaw, is_in
from finetune.jsonl import Ledger

_SYSTEM = "You are a radiologist who translates reports. You add nothing and leave nothing out."
_TRANSLATE = (
    "Translate this section of a radiology report into Korean, as a Korean radiologist would write it. Keep every number, unit "
    "and de-identification mark as it is. Write the translation alone.\n\n{name}:\n{body}"
)
_SIDES = {"left": re.compile("왼|좌"), "right": re.compile("오른|우"), "bilateral": re.compile("양|두 ?쪽|좌우")}
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def translate(
    reports: Iterable[dict[str, Any]], engine: Engine, ledger: Ledger, pace: Pace, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """The same reports with `sections` in Korean and `original` as they were.

    A section stays as it was where it is Korean already, where its translation is cut off or lost a number or a side, and
    where it does not fit into the engine's context; how many of each is logged. Raises EngineError; what was paid for until
    then is in the ledger.
    """
    kept = list(reports)
    jobs = {
        (number, name): _job(engine, name, body, seed)
        for number, report in enumerate(kept)
        for name, body in report["sections"].items()
        if not is_in(body, "ko")
    }
    ask_all(jobs.values(), engine, ledger, pace, "sections", seed)
    flaws = Counter[str]()
    for number, report in enumerate(kept):
        sections = dict(report["sections"])
        for name, body in report["sections"].items():
            if (asked := jobs.get((number, name))) is None:
                continue
            line = ledger.paid.get(asked.key)
            if flaw := translation_flaw(body, line["text"], line["finish"]) if line else "too long":
                flaws[flaw] += 1
            elif line:
                sections[name] = line["text"].strip()
        yield {**report, "sections": sections, "original": report["sections"]}
    log.info("%d of %d sections stay as they were: %s", flaws.total(), len(jobs), dict(sorted(flaws.items())) or "none")


def translation_flaw(body: str, told: str, finish: str) -> str | None:
    """Why a Korean translation of `body` is not believed, or None; `finish` is why it ended."""
    if flaw := answer_flaw("", told, finish, "ko"):
        return flaw
    if Counter(_NUMBER.findall(body)) - Counter(_NUMBER.findall(told)):
        return "lost a number"
    words = set(re.findall(r"[a-z]+", body.lower()))
    return "lost a side" if any(side in words and not korean.search(told) for side, korean in _SIDES.items()) else None


def _job(engine: Engine, name: str, body: str, seed: int) -> Job:
    messages = (Message("system", (_SYSTEM,)), Message("user", (_TRANSLATE.format(name=name, body=body),)))
    return job(engine, messages, Sampling(min(4000, 100 + 2 * len(body)), temperature=0.0, seed=seed))
