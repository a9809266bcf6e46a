"""Claims: what an answer about a film, a phantom or an odd picture says, read back from its words.

Knows the vocabulary of the answers in both languages. Does not know which answer is right.
"""

import re

from chat.wording import Language

YES_NO = frozenset({"pneumonia", "normal", "opacity", "phantom_pneumonia"})
VERDICT = frozenset({"impression", "certainty", "follow_certainty", "evidence", "section_summary"})
PLACE = frozenset({"phantom_impression", "follow_place", "follow_sure"})
SIDE = frozenset({"side", "compare", "clearer"})
ZONE = frozenset({"zone", "follow_zone"})

_WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "yes": r"^\W*yes\b",
        "no": r"^\W*no\b",
        "normal": r"looks? (?:\w+ )?normal|impression is normal|lungs? (?:fields )?look clear|looks? clear|clear lung"
        r"|no (?:clear |obvious )?sign|evenly dark|nothing suspicious",
        "pneumonia": r"suspicious|suspect|suggests|haz[yi]|opacity|pneumonia",
        "bacterial": r"bacterial?\b",
        "viral": r"\bvir(?:al|us)\b",
        "right": r"\bright\b",
        "left": r"\bleft\b",
        "upper": r"\bupper\b",
        "middle": r"\bmiddle\b",
        "lower": r"\blower\b",
        "none": r"\b(?:no|neither|none|nothing|nowhere)\b|(?:both|the) lungs (?:look|are) clear|clear lungs|without",
        "no letter": r"\bno\b",
        "no place": r"nothing to|\bno (?:suspicious|area|spot)|looks? (?:clear|normal)|not suspect",
        "unplaced": r"cannot|unable|may help",
        "unsure": r"cannot|unsure|reliably|confidence",
        "clear": r"clear|normal|nothing|\bno\b|neither",
        "chest x-ray": r"chest|radiograph",
        "decline": r"cannot|doctor",
        "synthetic": r"synthetic|phantom|drawn|computer",
        "cannot": r"cannot|can't|unable|neither",
    },
    "ko": {
        "yes": r"^\W*(?:예|네)(?:[\s,.]|$)",
        "no": r"^\W*아니[오요](?:[\s,.]|$)",
        "normal": r"정상(?:으로 보|에 가까|으로 판단)|맑아|맑고|깨끗|(?:소견이|음영이) 보이지 않|고르게 어둡",
        "pneumonia": r"의심|뿌옇|뿌연|시사|음영|가능성|폐렴",
        "bacterial": r"세균성(?!보다)",
        "viral": r"바이러스성(?!보다)",
        "right": r"오른쪽|우측",
        "left": r"왼쪽|좌측",
        "upper": r"상부|위쪽|윗부분",
        "middle": r"중간부|가운데",
        "lower": r"하부|아래쪽|아랫부분",
        "none": r"보이지 않|차이|비슷|양쪽|어느 (?:쪽|구역)|두 폐|다른 쪽|전체적으로 맑|없습니다|곳이 없"
        r"|(?<!쪽 )폐야?가 (?:깨끗|맑)",
        "no letter": r"없|않",
        "no place": r"정상|맑아|깨끗|보이지 않|의심되지 않",
        "unplaced": r"어렵|어려|수 없",
        "unsure": r"어렵|어려",
        "clear": r"맑|깨끗|없|않|정상",
        "chest x-ray": r"흉부|가슴",
        "decline": r"없|의사",
        "synthetic": r"합성|그린|컴퓨터",
        "cannot": r"없습니다|없어요|모르|아니",
    },
}
_ONE_WORD = {
    "modality": "chest x-ray",
    "treat": "decline",
    "diagnose": "decline",
    "synthetic": "synthetic",
    "phantom_modality": "synthetic",
    "follow_other_lung": "clear",
    "oddity": "cannot",
}


def claim_of(answer: str, kind: str, language: Language) -> str | None:
    """The claim of an `Exchange` of this kind that `answer` makes; None when it makes none, or the kind has none."""
    words = {claim: re.compile(text, re.IGNORECASE) for claim, text in _WORDS[language].items()}

    def says(claim: str) -> bool:
        return words[claim].search(answer) is not None

    def first(*claims: str) -> str | None:
        found = [(match.start(), claim) for claim in claims if (match := words[claim].search(answer))]
        return min(found)[1] if found else None

    def place() -> str | None:
        side, zone = first("right", "left"), first("upper", "middle", "lower")
        return f"{side} {zone}" if side and zone else None

    if kind in YES_NO:
        return first("yes", "no")
    if kind in VERDICT:
        return "normal" if says("normal") else "pneumonia" if says("pneumonia") else None
    if kind in {"type", "follow_type"}:
        return "normal" if says("normal") else first("bacterial", "viral")
    if kind in {"where", "follow_where"}:
        return "none" if says("no place") else place() or ("unplaced" if says("unplaced") else None)
    if kind in {"other_side", "follow_other_side"}:
        return "unsure" if says("unsure") else "clear" if says("clear") else None
    if kind in PLACE | SIDE | ZONE:
        asked = place() if kind in PLACE else first("right", "left") if kind in SIDE else first("upper", "middle", "lower")
        return "none" if says("none") else asked
    if kind == "marker":
        letter = re.search(r"(?<![A-Za-z])[RL](?![A-Za-z])", answer)
        return letter[0] if letter else "none" if says("none") or says("no letter") else None
    wanted = _ONE_WORD.get(kind)
    return wanted if wanted and says(wanted) else None
