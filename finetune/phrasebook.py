"""Phrasebook: the questions and answers that stand in `finetune/phrases/*.txt`, as `Phrasings`.

Knows the files' notation. Does not know images, truths or which answer is right.

A file holds sections: `? kind` asks, `! key` answers, `//` is a remark. One line is one way to say it; in a line
`[a|b|]` stands for a, b or nothing, and `{slot}` for a word to fill in. A line that starts with `~` is held out.
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from chat.wording import Language
from finetune.exchange import Phrasings, Random

PHRASES = Path(__file__).parent / "phrases"
_CHOICE = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class Book:
    """The questions by kind and the answers by key, in one language."""

    language: Language
    questions: dict[str, Phrasings]
    answers: dict[str, Phrasings]

    def ask(self, kind: str, rng: Random, held_out: bool = False) -> str:
        return roughened(self.questions[kind].draw(rng, held_out), self.language, rng)

    def say(self, key: str, rng: Random, **slots: str | int) -> str:
        """An answer, its slots filled, its first letter a capital."""
        return capital(self.answers[key].draw(rng).format(**slots))

    def add(self, answer: str, key: str, rng: Random) -> str:
        """`answer` with one more sentence, in the same Korean register."""
        polite = answer.endswith("요.")
        fitting = tuple(text for text in self.answers[key].seen if text.endswith("요.") == polite)
        return f"{answer} {Phrasings(fitting or self.answers[key].seen).draw(rng)}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def expand(line: str) -> list[str]:
    """Every text that a line stands for, with single spaces and none before a full stop, comma or question mark."""
    parts = _CHOICE.split(line)
    texts = product(*(part.split("|") if i % 2 else [part] for i, part in enumerate(parts)))
    return [re.sub(r"\s+([?.,!])", r"\1", " ".join("".join(text).split())) for text in texts]


_OPENERS: dict[Language, tuple[str, ...]] = {
    "en": (
        "Hello.", "Hi!", "Look at the picture.", "Quick question:", "So,", "OK,", "Now", "Please answer:", "One more thing:",
        "Question:", "Thanks.", "I have a question.", "Hm,", "Excuse me,", "Doctor,", "Next question:", "Please help me.",
    ),
    "ko": (
        "안녕하세요.", "저기요,", "그림을 보고 답해 주세요.", "혹시", "그럼", "질문이 있어요.", "그리고", "자,", "음,", "질문:",
        "다음 질문이에요.", "고마워요.", "선생님,", "하나만 더요.", "잘 보세요.", "궁금한 게 있는데요,", "좀 도와주세요.",
    ),
}  # fmt: skip


def roughened(question: str, language: Language, rng: Random) -> str:
    """As people type: now and then with an opening, without the final mark, in small letters or capitals, or with a slip."""
    if rng.random() < 0.12:
        opener = _OPENERS[language][int(rng.integers(len(_OPENERS[language])))]
        question = f"{opener} {question if opener[-1] in '.!?:' else question[:1].lower() + question[1:]}"
    way = rng.random()
    if way < 0.12:
        question = question.rstrip("?.!")
    if language == "en" and 0.06 < way < 0.18:
        question = question.lower()
    if 0.2 < way < 0.22 and len(question) > 8:
        slip = int(rng.integers(len(question)))
        question = " ".join((question[:slip] + question[slip + 1 :]).split())
    return question.upper() if language == "en" and way > 0.97 else question


@cache
def book(name: str, language: Language) -> Book:
    """The file `name.language.txt`. Raises ValueError for a line before the first section."""
    sections: dict[str, tuple[list[str], list[str]]] = {}
    lines: tuple[list[str], list[str]] | None = None
    for line in (PHRASES / f"{name}.{language}.txt").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("//"):
            continue
        if line.startswith(("? ", "! ")):
            lines = sections.setdefault(line.strip(), ([], []))
        elif lines is None:
            raise ValueError(f"{name}.{language}.txt says '{line}' before its first section.")
        else:
            lines[line.startswith("~")].extend(expand(line.removeprefix("~")))
    ready = {key: Phrasings(tuple(dict.fromkeys(seen)), tuple(held_out)) for key, (seen, held_out) in sections.items()}
    questions, answers = ({k[2:]: v for k, v in ready.items() if k[0] == mark} for mark in "?!")
    return Book(language, questions, answers)
