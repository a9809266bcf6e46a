"""Headings of radiology reports: which of seven sections a phrase announces, in Korean and English, ragged or misspelt.

Knows words, which stand in `phrases/headings.txt`. Does not know where in a report they stand. They follow MIMIC-CXR's
own parser (Johnson et al. 2019, github.com/MIT-LCP/mimic-cxr, txt/section_parser.py), widened by what other hospitals write.
"""

import re
import unicodedata
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

SECTIONS = ("EXAMINATION", "HISTORY", "INDICATION", "TECHNIQUE", "COMPARISON", "FINDINGS", "IMPRESSION")

_FILE = Path(__file__).parent / "phrases" / "headings.txt"
_LISTED = [line.partition(": ") for line in _FILE.read_text("utf-8").splitlines()]
_KNOWN = {phrase: name for name, _, phrases in _LISTED for phrase in phrases.split(", ") if name in SECTIONS}
_LISTS = {name: tuple(phrases.split(", ")) for name, _, phrases in _LISTED if name not in SECTIONS}
_NAMES = [phrase for phrase in _KNOWN if phrase.isascii() and len(phrase) >= 7]
SELDOM = frozenset(_LISTS["seldom"])
"""What heads a section only where nothing else can be meant."""

_ORGAN = re.compile(
    r"^(?:radiographic|radiological|radiologic|imaging|image|x-?ray|cxr|ct|mri?|us|pet|ultrasound|chest|lungs?|thorax|thoracic|"
    r"abdomen|abdominal|plain film|film|radiology) "
)
_QUALIFIER = re.compile(
    r"^(?:clinical|radiographic|radiological|radiologic|imaging|image|x-?ray|cxr|ct|mri?|us|pet|ultrasound|chest|lungs?|thorax|"
    r"thoracic|abdomen|abdominal|final|overall|preliminary|diagnostic|brief|pertinent|relevant|study|exam|report|"
    r"general|patient|plain film|film|radiology|principal|official|current|my|provisional|social|family|smoking) "
)
_KOREAN_QUALIFIER = re.compile(r"^(?:흉부|복부|두부|폐|영상|방사선|엑스선|임상|판독|최종|주요|환자|ct|mri|x선|x-ray|xray)")
_JOINT = re.compile(r"\s*(?:/|&|\+|,|·|ㆍ|\band\b|\bor\b|및)\s*")
_SPACED = re.compile(r"(?:\b\w ){3,}\w\b")
_HANGUL = re.compile(r"[가-힣]")
_JAMO_SHARE = 0.8


def section_of(phrase: str, lenient: bool = False) -> str | None:
    """The section that a heading announces, in any case and spacing; of two that are joined, the one that is named first.

    `FINDINGS AND IMPRESSION`, in either order, is FINDINGS. With `lenient` a slip of the pen still counts.
    """
    return _section_of(" ".join(phrase.split()), lenient) if 2 <= len(phrase) <= 80 else None


@lru_cache(maxsize=4096)
def _section_of(phrase: str, lenient: bool) -> str | None:
    text = re.sub(r"\([^()]*\)|\[[^\[\]]*\]", " ", unicodedata.normalize("NFKC", phrase).lower())
    text = " ".join(text.split()).strip(" .'\"")
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    if found := _simple(text, lenient):
        return found
    parts = [part for part in _JOINT.split(text) if part and part not in _LISTS["added"]]
    named = [_simple(part, lenient) for part in parts]
    if not parts or parts == [text] or not all(named):
        return None
    return "FINDINGS" if {"FINDINGS", "IMPRESSION"} <= set(named) else named[0]


def _simple(text: str, lenient: bool) -> str | None:
    if _HANGUL.search(text):
        return _korean(text.replace(" ", ""), lenient)
    text = re.sub(r"\b(?:examination|examinations)\b", "exam", text) if " " in text else text
    text = re.sub(r"\b(?:the|this|an|a) (?=exam|study)", "", text)
    of_organ = False
    while text:
        if text in _KNOWN:
            found = _KNOWN[text]
            return None if of_organ and (text == "report" or found not in ("FINDINGS", "IMPRESSION", "TECHNIQUE")) else found
        if lenient and (close := _misspelt(text)):
            return close
        shorter = _QUALIFIER.sub("", text, count=1)
        first, _, rest = text.partition(" ")
        if shorter == text and not (lenient and rest and get_close_matches(first, _LISTS["before"], 1, 0.85)):
            break
        of_organ = of_organ or text.startswith(("final ", "official ")) or bool(_ORGAN.match(text))
        text = rest if shorter == text else shorter
    return None


def _misspelt(text: str) -> str | None:
    text = text.replace("0", "o").replace("1", "i").replace("|", "i").replace("5", "s")
    if text in _LISTS["none"] or len(text) < 6 or not re.fullmatch(r"[a-z ,.'-]+", text):
        return None
    for close in get_close_matches(text, _NAMES, 3, 0.83):
        likeness = 0.83 if close[0] == text[0] and close[-2:] == text[-2:] else 0.85 if close[0] == text[0] else 0.88
        if abs(len(close) - len(text)) < 3 and get_close_matches(text, [close], 1, likeness):
            return _KNOWN[close]
    return None


def _korean(text: str, lenient: bool) -> str | None:
    shorter = _KOREAN_QUALIFIER.sub("", text, count=1)
    found = _KNOWN.get(text) or (_KNOWN.get(shorter) if len(shorter) > 1 else None)
    if found:
        of_organ = text not in _KNOWN and not text.startswith(("임상", "환자", "주요", "판독", "최종"))
        return None if of_organ and found not in ("FINDINGS", "IMPRESSION", "TECHNIQUE") else found
    if not lenient or text in _LISTS["none"]:
        return None
    letters = unicodedata.normalize("NFD", text)
    for name in _LISTS["korean"]:
        known = unicodedata.normalize("NFD", name)
        if len(name) == len(text) and known[0] == letters[0] and get_close_matches(letters, [known], 1, _JAMO_SHARE):
            return _KNOWN[name]
    return None
