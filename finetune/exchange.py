"""Exchanges: a question, its answer and the claim that can be checked, in Korean and English.

Knows sentences. Does not know images, models or tokens.
"""

from dataclasses import dataclass

import numpy as np

from chat.wording import Language

Random = np.random.Generator


Parts = tuple[tuple[str, tuple[int, ...]], ...]
"""Phrases of an answer, in order, each with the items that it is about."""


@dataclass(frozen=True)
class Exchange:
    """One question with its answer.

    `kind` names the intent, `claim` what a right answer says in words that are the same in every language
    ("yes", "no", "red", "star", "3", "upper left", ...); None when there is nothing to check. `items` are what it is about,
    where it singles something out, numbered as in the picture's index less one. `parts` where the answer goes
    through them one by one.
    """

    question: str
    answer: str
    kind: str
    claim: str | None = None
    items: tuple[int, ...] = ()
    parts: Parts = ()


@dataclass(frozen=True)
class Phrasings:
    """Ways to ask or to say one thing; `held_out` are kept for measuring and never trained on."""

    seen: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    def draw(self, rng: Random, held_out: bool = False) -> str:
        choices = self.held_out if held_out and self.held_out else self.seen
        return choices[int(rng.integers(len(choices)))]


_PARTICLES = {
    "이": ("이", "가"),
    "은": ("은", "는"),
    "을": ("을", "를"),
    "과": ("과", "와"),
    "으로": ("으로", "로"),
    "이에요": ("이에요", "예요"),
    "입니다": ("입니다", "입니다"),
}


def particle(word: str, kind: str) -> str:
    """`word` with its Korean particle: kind "이" gives 별이 or 하트가. A word that ends in no Hangul counts as vowel-final.

    `으로` follows the ㄹ rule (별로, 원으로). Raises KeyError for an unknown kind.
    """
    closed, open_ = _PARTICLES[kind]
    code = ord(word[-1]) - 0xAC00
    final = code % 28 if 0 <= code < 11172 else 0
    return word + (open_ if final == 0 or (kind == "으로" and final == 8) else closed)


def closed_answer(claim: bool, language: Language) -> str:
    """The first word of an answer to a yes/no question."""
    return {"ko": ("아니오", "예"), "en": ("No", "Yes")}[language][claim]
