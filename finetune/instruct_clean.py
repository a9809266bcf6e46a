"""Cleaning: what a language model wrote, and why some of it is not worth teaching.

Knows text in Korean and English. Does not know models, files or how the text came about.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from chat.wording import Language

MOST_LETTERS = {"question": 300, "answer": 2000}
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able)|as an ai|i (?:cannot|can't|won't) (?:help|assist|provide|answer|see|view)|"
    r"i do(?:n't| not) have (?:access|enough|the ability)|unable to (?:assist|comply|provide)|against my (?:rules|policy))|"
    r"죄송|인공지능(?:으로서|이기)|AI (?:모델|언어)|(?:도와|도움을|제공해|답변해?) ?(?:드릴|줄) 수 (?:없|가 없)|"
    r"답변(?:을|할) 수 없",
    re.IGNORECASE,
)
_TWO = re.compile(
    r"[?？].*[?？]|\b(?:and|or),? (?:also )?(?:what|where|which|how|why|who|when|is|are|was|were|does|do|did|has|can|should)\b|"
    r"(?:까|나요|가요|인지|하고|하며),? (?:그리고|또한|또|아울러) ",
    re.IGNORECASE | re.DOTALL,
)
_ABOUT_REPORT = re.compile(
    r"\b(?:the|this) (?:text|passage|document|report) (?:does not|doesn't|says nothing)|not (?:mentioned|stated|provided) in|"
    r"(?:보고서|본문)(?:에는|에) .{0,20}(?:없|언급되지)",
    re.IGNORECASE,
)
_SIDED = re.compile(r"left|right|upper|middle|lower|좌|우|왼|오른|상부|하부|상엽|중엽|하엽")
_WORD = re.compile(r"\w+")
_LEAKED_WORDS, _ANSWER_WORDS = 8, 4
_ALIKE, _SHARED = 0.9, 0.8


def question_flaw(question: str, report: str, language: Language, earlier: Sequence[str]) -> str | None:
    """Why a question is not to be taught, or None. `earlier` are the questions that were kept about the same report."""
    if not question.strip() or len(question) > MOST_LETTERS["question"]:
        return "empty or endless"
    if _REFUSAL.search(question):
        return "refusal"
    if not is_in(question, language):
        return "wrong language"
    if _TWO.search(question.strip().rstrip("?？ ") + "?"):
        return "two in one"
    if _shares_run(question, report, _LEAKED_WORDS):
        return "leak"
    return "near duplicate" if any(are_alike(question, other) for other in earlier) else None


def answer_flaw(question: str, answer: str, finish: str, language: Language) -> str | None:
    """Why an answer is not to be taught, or None; `finish` is why it ended."""
    if not answer.strip() or len(answer) > MOST_LETTERS["answer"]:
        return "empty or endless"
    if finish == "length":
        return "cut off"
    if _REFUSAL.search(answer) or _ABOUT_REPORT.search(answer):
        return "refusal"
    if not is_in(answer, language):
        return "wrong language"
    told, asked = _words(answer), _words(question)
    if told == asked or (len(told) >= _ANSWER_WORDS and f" {' '.join(told)} " in f" {' '.join(asked)} "):
        return "leak"
    return None


def is_in(text: str, language: Language) -> bool:
    """Mostly Hangul for Korean, where terms and numbers may be Latin; next to none for English, and nothing but Latin."""
    letters = [letter for letter in text if letter.isalpha()]
    hangul = sum("가" <= letter <= "힣" for letter in letters)
    if language == "ko":
        return hangul >= 0.3 * len(letters) and hangul > 0
    return sum(letter.isascii() for letter in letters) >= 0.95 * len(letters) > 0


def are_alike(one: str, other: str) -> bool:
    """Nearly the same words, or nearly the same letters."""
    first, second = set(_words(one)), set(_words(other))
    if _SIDED.findall(one.lower()) != _SIDED.findall(other.lower()):
        return False
    if len(first & second) > _SHARED * len(first | second):
        return True
    match = SequenceMatcher(None, one.lower(), other.lower(), autojunk=False)
    return match.quick_ratio() > _ALIKE and match.ratio() > _ALIKE


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _shares_run(question: str, report: str, length: int) -> bool:
    """Whether `length` words of the question stand in the report in a row."""
    asked, whole = _words(question), f" {' '.join(_words(report))} "
    return any(f" {' '.join(asked[i : i + length])} " in whole for i in range(len(asked) - length + 1))
