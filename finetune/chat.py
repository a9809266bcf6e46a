"""A terminal chat about a report, which stays in the prompt while the conversation moves on over five turns.

Knows standard input and output, and a report's text. Does not know how an engine answers. Nothing is written to a disk.

    python -m finetune.chat --report report.txt --model models/hilum-tiny
    python -m finetune.chat --report report.txt --base-url http://127.0.0.1:8000 --model NAME < questions.txt

One question a line; an empty line or the end of the input ends it. /clear forgets the turns and keeps the report.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from chat.conversation import Conversation, Turn
from chat.engine.base import DoesNotFit, Engine, Message, Sampling
from chat.wording import Language, language_of, with_report
from finetune.asking import add_engine_flags, guarded, open_engine, positive
from finetune.records import RecordError
from finetune.report_sources import decode

PINNED: dict[Language, str] = {
    "en": "You explain a radiology report. Rely on nothing but the report, say so when it holds no answer, never diagnose.",
    "ko": "당신은 영상 판독 보고서를 설명합니다. 보고서에만 근거하고, 답이 없으면 없다고 말하며, 진단하지 마세요.",
}


def compose(report: str, question: str, conversation: Conversation, engine: Engine, tokens: int) -> tuple[Message, ...]:
    """The report, as many of the last turns as fit, and the question. Raises DoesNotFit where the report alone is too long.

    The report stands in the system message, so no turn that leaves takes it along.
    """
    language = language_of(question, language_of(report))
    system = Message("system", (with_report(PINNED[language], report),))
    turns = conversation.turns
    while True:
        past = chain.from_iterable((Message("user", (t.question,)), Message("assistant", (t.answer,), t.ids)) for t in turns)
        messages = (system, *past, Message("user", (question,)))
        needed = engine.count(messages) + tokens
        if needed <= engine.limits.context_tokens:
            return messages
        if not turns:
            raise DoesNotFit(needed, engine.limits.context_tokens)
        turns = turns[1:]


def talk(report: str, questions: Iterable[str], engine: Engine, sampling: Sampling) -> None:
    """Print each answer as it comes. Raises EngineError."""
    conversation = Conversation()
    for line in questions:
        if not (question := line.strip()):
            return
        if question == "/clear":
            conversation = conversation.cleared()
            continue
        text, ids = "", list[int]()
        for delta in engine.stream(compose(report, question, conversation, engine, sampling.max_new_tokens), sampling, "chat"):
            print(delta.text, end="", flush=True)
            text, ids = text + delta.text, [*ids, *delta.ids]
        print(flush=True)
        conversation = conversation.with_turn(Turn(question, text, tuple(ids)))


def _typed() -> Iterable[str]:
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def run(args: argparse.Namespace) -> None:
    report = decode(args.report).strip()
    if not report:
        raise RecordError(f"{args.report.name} is empty. Name a file with a report.")
    engine = open_engine(args.base_url, args.model)
    try:
        questions = args.question or (_typed() if sys.stdin.isatty() else sys.stdin)
        talk(report, questions, engine, Sampling(args.max_tokens, temperature=0.1, seed=args.seed))
    finally:
        engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.chat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", type=Path, required=True, help="a text file with the report")
    parser.add_argument("--question", action="append", help="ask this and end; give it again for more")
    parser.add_argument("--max-tokens", type=positive, default=512, help="the longest answer")
    parser.add_argument("--seed", type=int, default=0)
    add_engine_flags(parser, with_pace=False)
    args = parser.parse_args(arguments)
    return guarded(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
