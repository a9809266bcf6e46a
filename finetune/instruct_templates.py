"""Templates: questions and answers without a language model, from a report's sections, a film's label or its lung masks.

Knows sections, labels and masks, and fixed phrases in Korean and English. Does not know files' formats or models.
An answer quotes the report, or says no more than a label or a mask does.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from chat.wording import Language, language_of
from finetune.record_formats import Exchange, Record
from finetune.samples import find_samples
from finetune.seg_pairs import Pair, find_pairs

_SENTENCE = re.compile(r"(?<=[.!?다음함임됨])\s+|\n+(?=\d|[-*•])|\n{2,}")
_NUMBER = re.compile(r"^\s*(?:\(?\d{1,2}[.)]|[-*•])\s*")
_PHRASES: dict[str, dict[Language, tuple[str, ...]]] = {
    "summary": {
        "en": ("Summarise this report.", "What is the impression?", "What does this study conclude?"),
        "ko": ("이 보고서를 요약해 주세요.", "결론은 무엇입니까?", "이 검사의 판독 결론은 무엇입니까?"),
    },
    "finding": {
        "en": ("What are the findings?", "Describe what is seen.", "What does the report describe?"),
        "ko": ("소견은 무엇입니까?", "보이는 것을 설명해 주세요.", "어떤 소견이 적혀 있습니까?"),
    },
    "location": {"en": ("Where is the {thing}?", "Where does the {thing} lie?"), "ko": ("{thing}의 위치는 어디입니까?",)},
    "presence": {"en": ("Is there {a_thing}?", "Does the report mention {a_thing}?"), "ko": ("{thing} 소견이 있습니까?",)},
    "comparison": {
        "en": ("What has changed since the earlier study?", "How does this compare with the earlier study?"),
        "ko": ("이전 검사와 비교하여 어떻습니까?", "이전 검사에 비해 달라진 것은 무엇입니까?"),
    },
    "recommendation": {
        "en": ("What is recommended?", "What should be done next?"),
        "ko": ("무엇을 권고합니까?", "다음에 무엇을 해야 합니까?"),
    },
    "plain language": {
        "en": ("What does {a_thing} mean in plain words?", "How would you explain {a_thing} to a patient?"),
        "ko": ("‘{thing}’의 뜻을 쉬운 말로 설명해 주세요.", "환자에게 ‘{thing}’에 대해 어떻게 설명하겠습니까?"),
    },
}
_NO = re.compile(
    r"\b(?:no|without|negative for|free of|absence of|not? (?:\w+ ){0,3}(?:seen|identified|evidence))\b|없|않|배제",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:may|might|possibl[ey]|probabl[ey]|cannot|difficult|exclude|rule out|versus|vs|suspicious|suspected|likely|if|large|"
    r"definite|significant|displaced|gross(?:ly)?|new|increas\w*|recommend\w*|history|prior|resolved|previous)\b|"
    r"의심|가능|감별|배제|권고|XXXX|___",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"\b(?:left|right|bilateral|bibasilar|upper|middle|lower|apical|apex|base|basilar|hilar|retrocardiac|perihilar)\b|"
    r"좌|우|양측|상엽|중엽|하엽|첨부|폐문",
    re.IGNORECASE,
)
_CHANGE = re.compile(
    r"\b(?:stable|unchanged|interval|compared|since|increased|decreased|improved|worsen\w*|new|again)\b|"
    r"변화|이전|호전|악화|증가|감소",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"\b(?:recommend\w*|suggest(?:ed)?\b.{0,30}(?:ct|follow)|follow-?up|advised|consider)\b|권고|권장|추적|요함|요망",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Thing:
    """What a report may speak of: as patterns in both languages, by name, and in plain words."""

    in_english: str
    in_korean: str
    name: str
    with_article: str
    korean: str
    plain: str
    plain_korean: str

    @property
    def pattern(self) -> str:
        return rf"\b(?:{self.in_english})\b|(?:{self.in_korean})"


_FILE = Path(__file__).parent / "phrases" / "things.txt"
_THINGS = [Thing(*line.split(" | ")) for line in _FILE.read_text("utf-8").splitlines() if not line.startswith("#")]


def ask_report(
    name: str, patient: str, sections: Mapping[str, str], languages: Sequence[Language], seed: int
) -> Iterator[Record]:
    """Questions of seven kinds about one report, those that it can answer; quotes only in the report's own language."""
    own = language_of(" ".join(sections.values()))
    context = "\n\n".join(f"{heading}: {body}" for heading, body in sections.items())
    for language in languages:
        rng = Random(f"{seed}:{name}:{language}")
        found = [*(_quoted(sections, language, rng) if language == own else ()), *_about_things(sections, language, rng)]
        for number, (kind, exchange) in enumerate(found):
            yield Record(f"{name}-{language}-{number}", patient, (exchange,), None, context, kind, language, "template")


def _quoted(sections: Mapping[str, str], language: Language, rng: Random) -> Iterator[tuple[str, Exchange]]:
    said = _sentences(sections)
    quotes = {
        "summary": sections.get("IMPRESSION", ""),
        "finding": sections.get("FINDINGS", ""),
        "comparison": " ".join(each for each in said if _CHANGE.search(each)),
        "recommendation": " ".join(each for each in said if _ADVICE.search(each)),
    }
    for kind, quote in quotes.items():
        if quote:
            yield kind, Exchange(rng.choice(_PHRASES[kind][language]), quote)
    for thing in _THINGS:
        placed = [
            each for each in said if re.search(thing.pattern, each, re.I) and _PLACE.search(each) and not _NO.search(each)
        ]
        if placed:
            name = thing.korean if language == "ko" else thing.name
            yield "location", Exchange(rng.choice(_PHRASES["location"][language]).format(thing=name), placed[0])


def _about_things(sections: Mapping[str, str], language: Language, rng: Random) -> Iterator[tuple[str, Exchange]]:
    """Yes or no for each thing that the report is sure of, and what the first of them means."""
    said, explained = _sentences(sections), False
    for thing in _THINGS:
        about = [each for each in said if re.search(thing.pattern, each, re.IGNORECASE)]
        if not about:
            continue
        absent = {_is_absent(each, thing) for each in about}
        names = {"thing": thing.korean if language == "ko" else thing.name, "a_thing": thing.with_article}
        if not any(map(_DOUBT.search, about)) and absent in ({True}, {False}):
            question = rng.choice(_PHRASES["presence"][language]).format(**names)
            yield ("negation" if True in absent else "finding"), Exchange(question, _closed(True in absent, thing, language))
        if not explained:
            explained = True
            question = rng.choice(_PHRASES["plain language"][language]).format(**names)
            yield "plain language", Exchange(question, thing.plain_korean if language == "ko" else thing.plain)


def _is_absent(sentence: str, thing: Thing) -> bool | None:
    """Whether a sentence says that a thing is absent; None where it says no to something and this may be another."""
    if not _NO.search(sentence):
        return False
    between = r"(?:(?!\b(?:but|with|however|there|small|mild)\b)[^;:.])*?"
    english = rf"\b(?:no|without|negative for|free of|absence of)\b{between}\b(?:{thing.in_english})"
    korean = rf"(?:{thing.in_korean})(?:(?!있|보임|보이며|관찰됨|증가)[^.,])*(?:없|않|배제)"
    return True if re.search(f"{english}|{korean}", sentence, re.IGNORECASE) else None


def _closed(is_absent: bool, thing: Thing, language: Language) -> str:
    if language == "ko":
        return f"아니요. {thing.korean} 소견은 없습니다." if is_absent else f"예. {thing.korean} 소견이 있습니다."
    return f"No, there is no {thing.name}." if is_absent else f"Yes, there is {thing.with_article}."


def _sentences(sections: Mapping[str, str]) -> list[str]:
    whole = [sections.get(name, "") for name in ("FINDINGS", "IMPRESSION")]
    split = [" ".join(_NUMBER.sub("", each).split()) for text in whole for each in _SENTENCE.split(text)]
    return list(dict.fromkeys(each for each in split if len(each) > 3))


def ask_labels(folder: Path, out: Path, languages: Sequence[Language], seed: int) -> Iterator[Record]:
    """One closed question per film of a folder per class: is it pneumonia, or is it normal? Raises RecordError."""
    asked: dict[Language, dict[str, str]] = {
        "en": {"PNEUMONIA": "Does this chest film show pneumonia?", "NORMAL": "Is this a normal chest film?"},
        "ko": {"PNEUMONIA": "이 흉부 사진에 폐렴이 보입니까?", "NORMAL": "이 흉부 사진은 정상입니까?"},
    }
    answers: dict[Language, tuple[str, str]] = {"en": ("No.", "Yes."), "ko": ("아니요.", "예.")}
    for sample in find_samples(folder, ("NORMAL", "PNEUMONIA")):
        rng = Random(f"{seed}:{sample.digest}")
        for language in languages:
            label = rng.choice(("NORMAL", "PNEUMONIA"))
            turn = Exchange(asked[language][label], answers[language][sample.label == label])
            name = f"{sample.path.stem}-label-{language}"
            yield Record(name, sample.patient, (turn,), _beside(sample.path, out), "", "finding", language, "label")


def ask_masks(folder: Path, out: Path, languages: Sequence[Language], seed: int) -> Iterator[Record]:
    """Where each lung lies in the image, and which covers more of it, from lung masks. Raises RecordError."""
    pairs, classes = find_pairs(folder)
    if {"left lung", "right lung"} - {name.replace("_", " ") for name in classes}:
        return
    places = [name.replace("_", " ") for name in classes]
    for pair in pairs:
        rng = Random(f"{seed}:{pair.digest}")
        for language in languages:
            for number, turn in enumerate(_about_lungs(pair, places, language, rng)):
                name = f"{pair.path.stem}-mask-{language}-{number}"
                yield Record(name, pair.patient, (turn,), _beside(pair.path, out), "", "location", language, "mask")


def _about_lungs(pair: Pair, places: Sequence[str], language: Language, rng: Random) -> Iterator[Exchange]:
    lungs = {side: pair.mask == places.index(f"{side} lung") + 1 for side in ("left", "right")}
    area = {side: int(mask.sum()) for side, mask in lungs.items()}
    if not all(area.values()):
        return
    side = rng.choice(("left", "right"))
    is_on_left = float(np.nonzero(lungs[side])[1].mean()) < pair.mask.shape[1] / 2
    if language == "ko":
        sides = {"left": "왼쪽", "right": "오른쪽"}
        yield Exchange(
            f"환자의 {sides[side]} 폐는 이 영상의 어느 쪽에 있습니까?",
            f"영상의 {'왼쪽' if is_on_left else '오른쪽'}에 있습니다.",
        )
    else:
        place = "left" if is_on_left else "right"
        yield Exchange(f"On which side of this image is the patient's {side} lung?", f"On the {place} side of the image.")
    larger = max(area, key=lambda each: area[each])
    if area[larger] > 1.15 * min(area.values()):
        if language == "ko":
            yield Exchange("이 영상에서 어느 쪽 폐가 더 넓게 보입니까?", f"환자의 {sides[larger]} 폐입니다.")
        else:
            yield Exchange("Which lung covers more of this image?", f"The patient's {larger} lung.")


def _beside(image: Path, out: Path) -> str:
    return Path(os.path.relpath(image.resolve(), out.resolve().parent)).as_posix()
