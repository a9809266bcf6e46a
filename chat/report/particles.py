"""Particles: the endings of Korean nouns that follow from how the noun before them is spoken: 폐렴이, 결절이, Effusion이, CT가.

Knows Hangul, digits and, roughly, how Latin words are spoken in Korean. Does not know reports or evidence.
"""

import re

_MARKER = re.compile(r"\[(이/가|은/는|을/를|과/와|으로/로)\]")
_LAST_WORD = re.compile(r"([A-Za-z]+|[0-9]|[가-힣]|%)[^A-Za-z0-9가-힣%]*$")
_FIRST_HANGUL, _FINALS, _RIEUL = 0xAC00, 28, 8
_DIGITS = {"0": 21, "1": _RIEUL, "2": 0, "3": 16, "4": 0, "5": 0, "6": 1, "7": _RIEUL, "8": _RIEUL, "9": 0}
_LETTERS = {"l": _RIEUL, "r": _RIEUL, "m": 16, "n": 4}
_ENDINGS = (
    (re.compile(r"(?:l|ll|le)$"), _RIEUL),
    (re.compile(r"(?:m|me)$"), 16),
    (re.compile(r"(?:n|ne|ng)$"), 4),
    (re.compile(r"(?:^|[^aeiou])[aeiou](?:p|ck|c|k|t|b)$"), 1),
)


def with_particles(text: str) -> str:
    """Text whose markers, such as [이/가], have become the particle that fits the word before them.

    A bracketed remark is not spoken: 폐렴(pneumonia)이. Digits are read as numbers, capitals of up to three letters by name.
    """
    while marker := _MARKER.search(text):
        text = text[: marker.start()] + _fitting(text[: marker.start()], marker[1]) + text[marker.end() :]
    return text


def _fitting(before: str, particles: str) -> str:
    closed, open_ = particles.split("/")
    final = _final(re.sub(r"\([^()]*\)\s*$", "", before))
    return open_ if not final or (final == _RIEUL and closed == "으로") else closed


def _final(text: str) -> int:
    """The number of the final consonant that the last word is spoken with, as Unicode counts them; 0 for none."""
    found = _LAST_WORD.search(text)
    if found is None or found[1] == "%":  # 퍼센트
        return 0
    word = found[1]
    if "가" <= word <= "힣":
        return (ord(word) - _FIRST_HANGUL) % _FINALS
    if word.isdigit():
        return _DIGITS[word]
    if len(word) == 1 or (word.isupper() and len(word) <= 3):
        return _LETTERS.get(word[-1].lower(), 0)
    return next((final for ending, final in _ENDINGS if ending.search(word.lower())), 0)
