"""Scene words: the names of shapes, colours, sizes and places in Korean and English, and how to read them back.

Knows words and grammar. Does not know scenes, questions or models.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from chat.wording import Language
from finetune.exchange import Phrasings, Random, particle

PLACES = {
    "upper left": "왼쪽 위", "upper centre": "위 가운데", "upper right": "오른쪽 위",
    "middle left": "왼쪽 가운데", "centre": "한가운데", "middle right": "오른쪽 가운데",
    "lower left": "왼쪽 아래", "lower centre": "아래 가운데", "lower right": "오른쪽 아래",
}  # fmt: skip
CELLS = tuple(PLACES)
KINDS_KO = {
    "circle": "원", "square": "사각형", "triangle": "삼각형", "star": "별",
    "heart": "하트", "cross": "십자", "diamond": "마름모", "ring": "고리",
}  # fmt: skip
COLOURS_KO = {
    "red": "빨간", "orange": "주황색", "yellow": "노란", "green": "초록색", "blue": "파란", "purple": "보라색",
    "pink": "분홍색", "brown": "갈색", "black": "검은", "white": "흰", "grey": "회색",
}  # fmt: skip
SIZES_KO = {"small": "작은", "medium": "중간 크기의", "large": "큰"}
NUMBERS = {
    "en": ("no", "one", "two", "three", "four", "five", "six", "seven"),
    "ko": ("", "한", "두", "세", "네", "다섯", "여섯", "일곱"),
}
SYNONYMS = {
    "en": {
        "circle": ("disc", "round shape"), "cross": ("plus sign",), "diamond": ("rhombus",), "square": ("box",),
        "ring": ("hoop",), "purple": ("violet",), "large": ("big",), "small": ("little", "tiny"), "medium": ("medium-sized",),
    },
    "ko": {
        "circle": ("동그라미",), "square": ("네모", "정사각형"), "triangle": ("세모",), "star": ("별 모양",),
        "heart": ("하트 모양",),
        "cross": ("십자 모양", "십자가"), "diamond": ("다이아몬드",), "ring": ("링", "고리 모양"), "red": ("빨간색", "빨강"),
        "orange": ("주황",), "yellow": ("노란색", "노랑"), "green": ("초록", "녹색"), "blue": ("파란색", "파랑"),
        "purple": ("보라",), "pink": ("분홍", "핑크색"), "black": ("검은색", "까만"), "white": ("흰색", "하얀"),
        "large": ("커다란",), "small": ("조그만",), "medium": ("중간",),
    },
}  # fmt: skip
_SPOKEN_CLOSED = frozenset({"CAT", "STOP", "OPEN", "SHOP", "HOTEL", "SUN", "MOON", "BOOK", "SALE"})


@dataclass(frozen=True)
class EnglishNoun:
    """A noun for templates: `{x:a}` "a red star", `{x:the}`, `{x:many}` "red stars", `{x}` bare; `tail` says where."""

    head: str
    tail: str = ""

    def __format__(self, form: str) -> str:
        tail = f" {self.tail}" if self.tail else ""
        if form == "many":
            return self.head + ("es" if self.head.endswith(("s", "x")) else "s") + tail
        article = {"": "", "the": "the ", "a": "an " if self.head[0] in "aeiou" else "a "}[form]
        return article + self.head + tail


class It(EnglishNoun):
    """The pronoun; it takes no article."""

    def __format__(self, form: str) -> str:
        return "it"


class KoreanNoun(str):
    """A noun for templates: `{x:은}` adds that particle, `{x}` none."""

    def __format__(self, form: str) -> str:
        return particle(self, form) if form else str(self)


class Written(str):
    """Lettering in a Korean sentence: quoted, with the particle of how it is read aloud (3이, 2가, STOP이라고)."""

    def __format__(self, form: str) -> str:
        closed = self in _SPOKEN_CLOSED or self[-1] in "013678"
        quoted = '"' + str(self) + '"'
        if form in ("라고", "라는"):
            return quoted + ("이" if closed else "") + form
        return quoted + (particle("삼" if closed else "사", form)[1:] if form else "")


Noun = EnglishNoun | KoreanNoun


@dataclass(frozen=True)
class Ref:
    """A description by some attributes; None leaves one open."""

    kind: str | None = None
    colour: str | None = None
    size: str | None = None
    cell: str | None = None

    @property
    def length(self) -> int:
        """How many attributes it names."""
        return sum(bool(value) for value in (self.kind, self.colour, self.size, self.cell))

    def noun(self, language: Language, rng: Random | None = None) -> Noun:
        """The words for it; with `rng`, now and then a synonym (for questions only)."""

        def word(key: str, usual: str) -> str:
            others = SYNONYMS[language].get(key, ()) if rng is not None and rng.random() < 0.12 else ()
            return others[int(rng.integers(len(others)))] if rng is not None and others else usual

        if language == "en":
            parts = [word(k, k) for k in (self.size, self.colour, self.kind or "shape") if k]
            where = "" if not self.cell else "in the centre" if self.cell == "centre" else f"at the {self.cell}"
            return EnglishNoun(" ".join(parts), where)
        named = {**SIZES_KO, **COLOURS_KO, **KINDS_KO}
        parts = [word(k, named[k]) for k in (self.size, self.colour, self.kind) if k]
        place = [PLACES[self.cell] + "에 있는"] if self.cell else []
        return KoreanNoun(" ".join(place + parts + ([] if self.kind else ["도형"])))


def phrases(text: str) -> Phrasings:
    """Phrasings from text: one a line, or several with a bar between."""
    return Phrasings(tuple(part.strip() for part in re.split(r"[|\n]", text) if part.strip()))


def lowered(text: str) -> str:
    """A sentence as it goes on after a comma or a colon; "I", quoted lettering and lettering in capitals stay."""
    return text if text.startswith(("I ", '"')) or text[:2].isupper() else text[0].lower() + text[1:]


def colour_name(colour: str, language: Language) -> str:
    """The colour as a noun: "red", "빨간색"."""
    if language == "en":
        return colour
    word = COLOURS_KO[colour]
    return KoreanNoun(word if word.endswith("색") else word + "색")


def amount(ref: Ref, count: int, language: Language, digits: bool) -> str:
    """So many of them: "three red stars", "빨간 별 3개"."""
    noun = ref.noun(language)
    if language == "en":
        return f"{count if digits and count else NUMBERS['en'][count]} {noun:{'' if count == 1 else 'many'}}"
    return KoreanNoun(f"{noun} {counted(count, digits)}")


def counted(count: int, digits: bool) -> str:
    """A Korean number with its counter: "3개", "세 개"."""
    return KoreanNoun(f"{count}개" if digits else f"{NUMBERS['ko'][count]} 개")


_COLOUR_STEMS = {
    "빨간": "red", "빨강": "red", "주황": "orange", "노란": "yellow", "노랑": "yellow", "초록": "green", "녹색": "green",
    "파란": "blue", "파랑": "blue", "보라": "purple", "분홍": "pink", "갈색": "brown", "검은": "black", "검정": "black",
    "흰": "white", "하얀": "white", "회색": "grey", "gray": "grey",
}  # fmt: skip
_COLOUR_WORDS = {**{colour: colour for colour in COLOURS_KO}, **_COLOUR_STEMS}
_KIND_WORDS = {**{kind: kind for kind in KINDS_KO}, **{word: kind for kind, word in KINDS_KO.items()}}
_SIZE_WORDS = {
    "small": "small", "medium": "medium", "large": "large", "작": "small", "중간": "medium", "큰": "large", "커": "large",
    "큽": "large", "크다": "large", "big": "large",
}  # fmt: skip
_COUNT_WORDS = {
    **{word: str(i) for i, word in enumerate(NUMBERS["en"])},
    **{f"{word} 개": str(i) for i, word in enumerate(NUMBERS["ko"]) if i},
    **dict.fromkeys(("none", "zero", "없", "하나도"), "0"),
    **dict(zip(("하나", "둘", "셋", "넷"), "1234", strict=True)),
    **{str(i): str(i) for i in range(10)},
}
_DOMAIN_WORDS = {"drawing": "drawing", "그림": "drawing"}


def _pattern(words: Mapping[str, str]) -> re.Pattern[str]:
    """Any of the words, each from its start; English ones to their end, but for a plural."""
    ordered = sorted(words, key=len, reverse=True)
    forms = [rf"\b{re.escape(w)}(?:e?s)?\b" if w.isascii() and not w.isdigit() else rf"(?<![가-힣\d]){w}" for w in ordered]
    return re.compile("|".join(f"({form})" for form in forms), re.IGNORECASE)


_READERS = {
    kind: (_pattern(words), tuple(words[w] for w in sorted(words, key=len, reverse=True)))
    for kind, words in {
        "colour": _COLOUR_WORDS, "background": _COLOUR_WORDS, "shape": _KIND_WORDS,
        "size": _SIZE_WORDS, "count": _COUNT_WORDS, "domain": _DOMAIN_WORDS,
    }.items()
}  # fmt: skip
_CLOSED = re.compile(r"\s*(?:(yes|예|네)|(no|아니[오요]))(?![A-Za-z가-힣])", re.IGNORECASE)
_PART = r"(?:upper|top|lower|bottom|middle|left|right|cent(?:re|er)|위(?!치)|아래|왼|오른|한?가운데|중앙)쪽?"
_PLACE = re.compile(rf"(?<![A-Za-z가-힣]){_PART}(?:[ -]{_PART})?", re.IGNORECASE)
_WRITTEN = re.compile(r"(?<![A-Z\d])(?:\d+|[A-Z]{3,})(?![A-Z\d])")


def _first(kind: str, answer: str) -> str | None:
    pattern, claims = _READERS[kind]
    found = pattern.search(answer)
    return claims[found.lastindex - 1] if found and found.lastindex else None


def _read_place(answer: str) -> str | None:
    found = _PLACE.search(answer)
    if not found:
        return None
    said = found[0].lower()

    def hears(*words: str) -> bool:
        return any(word in said for word in words)

    row = "upper" if hears("upper", "top", "위") else "lower" if hears("lower", "bottom", "아래") else "middle"
    column = "left" if hears("left", "왼") else "right" if hears("right", "오른") else "centre"
    return "centre" if (row, column) == ("middle", "centre") else f"{row} {column}"


def claim_of(answer: str, kind: str, language: Language) -> str | None:
    """The claim that an answer to a question of `kind` makes, in the words of `Exchange.claim`; None: none found.

    The first claim word counts. Either language is read, whatever `language` is asked for.
    """
    kind = kind.removeprefix("follow_")
    if kind in ("describe", "each"):
        return None
    closed = _CLOSED.match(answer)
    if closed and kind not in ("count", "read"):
        return "yes" if closed[1] else "no"
    if kind == "position":
        return _read_place(answer)
    if kind == "read":
        found = _WRITTEN.search(answer)
        return found[0] if found else "none" if re.search(r"\b(?:no|not|nothing)\b|없", answer, re.IGNORECASE) else None
    if kind == "largest":
        colour, shape = _first("colour", answer), _first("shape", answer)
        return f"{colour} {shape}" if colour and shape else None
    return _first(kind, answer) if kind in _READERS else None
