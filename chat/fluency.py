"""Fluency: fixed Korean questions, and whether the answers are Korean that comes to an end.

Knows letters. Does not know engines, or whether an answer is true.
"""

from collections.abc import Sequence

from chat.verified import Fluency

QUESTIONS = (
    "이 그림에 무엇이 보입니까? 한 문장으로 답해 주세요.",
    "이 그림의 배경은 어떤 색입니까?",
    "그림에서 가장 눈에 띄는 것은 무엇입니까?",
    "이 그림을 어린이에게 한 문장으로 설명해 주세요.",
    "이 그림에 사람이 있습니까? 이유도 말해 주세요.",
)
LEAST_HANGUL, LEAST_DISTINCT, LEAST_ENDED = 0.7, 0.5, 3
"""Below these it is called off: mostly another language, going round in circles, or never coming to an end."""


def measure_fluency(answers: Sequence[str], ended: int) -> Fluency:
    """Hangul among all letters; distinct triples of characters in each answer (after Li et al. 2016), 0 for an empty one."""
    letters = [letter for answer in answers for letter in answer if letter.isalpha()]
    hangul = sum("가" <= letter <= "힣" or "ㄱ" <= letter <= "ㆎ" for letter in letters)
    return Fluency(
        answers=len(answers),
        hangul_share=hangul / max(1, len(letters)),
        distinct_3=sum(_distinct("".join(answer.split())) for answer in answers) / len(answers),
        broken_letters=sum(answer.count("\ufffd") for answer in answers),
        ended=ended,
    )


def _distinct(text: str) -> float:
    triples = [text[i : i + 3] for i in range(max(1, len(text) - 2))]
    return len(set(triples)) / len(triples) if text else 0.0


def tell(found: Fluency) -> str:
    return (
        f"{found.hangul_share:.0%} of the letters are Hangul, {found.broken_letters} are broken, {found.distinct_3:.0%} of the "
        f"triples are distinct, {found.ended} of {found.answers} answers come to an end"
    )


def is_fluent(found: Fluency) -> bool:
    has_form = found.hangul_share >= LEAST_HANGUL and found.distinct_3 >= LEAST_DISTINCT
    return has_form and not found.broken_letters and found.ended >= LEAST_ENDED
