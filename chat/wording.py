"""Wording: every fixed sentence that a model reads, in Korean and English.

Knows evidence, boxes and languages. Does not know engines or pages; the page's own words are `chat/ui/words.py`.
The embedded model is trained on these very sentences, but for those around a writer: changing one means training it again.
"""

import re
from collections.abc import Sequence
from typing import Literal

from vision.evidence import Evidence, Peak
from vision.tiling import Box

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = ("ko", "en")

_HANGUL = re.compile(r"[\uac00-\ud7a3\u3131-\u318e]")
_LATIN = re.compile(r"[A-Za-z]")

_ANSWER_IN = {"ko": "한국어로 답해 주세요.", "en": "Please answer in English."}

_ROWS = {"ko": ("위", "가운데", "아래"), "en": ("upper", "middle", "lower")}
_COLUMNS = {"ko": ("왼쪽", "가운데", "오른쪽"), "en": ("left", "centre", "right")}
_SIDES = {"ko": {"right": "오른쪽", "left": "왼쪽"}, "en": {"right": "right", "left": "left"}}
_ZONES = {
    "ko": {"upper": "상부", "middle": "중간부", "lower": "하부"},
    "en": {"upper": "upper", "middle": "middle", "lower": "lower"},
}
_LABELS = {"ko": {"NORMAL": "정상", "PNEUMONIA": "폐렴"}, "en": {"NORMAL": "normal", "PNEUMONIA": "pneumonia"}}

_EVIDENCE = {
    "ko": {
        "head": "참고 (틀릴 수 있으며 영상이 우선합니다):",
        "one": "분류기는 {labels} 쪽입니다.",
        "several": "분류기는 {labels} 사이에서 결정하지 못했습니다.",
        "none": "분류기는 어느 쪽도 뒷받침하지 않습니다.",
        "probability": "{label} 확률 {percent}%.",
        "peak": "주목 위치: 환자의 {side} 폐 {zone}.",
        "inside": "주목 지도의 {percent}%가 폐 안에 있습니다.",
        "outside_population": "학습한 소아 집단 밖의 영상이라 확률은 싣지 않습니다.",
        "map_untrusted": "주목 지도는 믿을 수 없어 제외했습니다.",
    },
    "en": {
        "head": "Hints (may be wrong; the image outranks them):",
        "one": "The classifier leans to {labels}.",
        "several": "The classifier cannot decide between {labels}.",
        "none": "The classifier supports no label.",
        "probability": "Probability of {label} {percent}%.",
        "peak": "Attention peaks in the patient's {side} {zone} lung.",
        "inside": "{percent}% of the attention map lies inside the lungs.",
        "outside_population": "Outside the children it was trained on, so no probability is given.",
        "map_untrusted": "The attention map was not trustworthy and is left out.",
    },
}

SECTIONS = ("summary", "looked_at", "next", "quality")
_SECTIONS = {
    "ko": {
        "summary": "보고서의 첫 부분을 쓰세요: 이 영상의 종합 판단을 쉬운 말로 두세 문장.",
        "looked_at": "보고서의 둘째 부분을 쓰세요: 무엇을 보았고 주목 지도를 어떻게 읽는지 두세 문장.",
        "next": "보고서의 셋째 부분을 쓰세요: 다음에 확인할 것 두세 문장.",
        "quality": "보고서의 넷째 부분을 쓰세요: 영상 품질과 표지에 관한 주의점 두세 문장.",
    },
    "en": {
        "summary": "Write the first part of the report: the summary judgement of this image, two or three plain sentences.",
        "looked_at": "Write the second part of the report: what was looked at and how to read the map, two or three sentences.",
        "next": "Write the third part of the report: what to check next, two or three sentences.",
        "quality": "Write the fourth part of the report: cautions about image quality and labelling, two or three sentences.",
    },
}

_SEARCH_REFERENCE = {
    "ko": "첫째 그림의 것이 둘째 그림에 있습니까? 예 또는 아니오로 답하세요.",
    "en": "Is what the first picture shows in the second picture? Answer Yes or No.",
}
_SEARCH_TEXT = {"ko": "여기에 {thing} 있습니까? 예 또는 아니오로 답하세요.", "en": "Is there {thing} here? Answer Yes or No."}


_LOOK = "Answer in a few short sentences, and say only what the image shows."

_BRIEF = {
    "ko": (
        "당신은 그림을 보지 못합니다. 그림을 본 모델이 영어로 적은 아래 내용만을 근거로 질문에 한국어로 답하세요.\n"
        "- 아래 내용이 뒷받침하지 않는 것은 말하지 마세요. 답이 거기에 없으면 확인되지 않는다고 말하세요.\n"
        "- '아마', '뚜렷하지 않음' 같은 불확실함은 그대로 남기세요.\n"
        "- 진단하거나 치료를 권하지 마세요.\n"
        "- 짧고 쉬운 말로 답만 쓰세요.\n\n관찰:\n{observations}{hints}\n\n질문: {question}"
    ),
    "en": (
        "You do not see the picture. Answer the question in English, from nothing but what a model that saw it wrote below.\n"
        "- Say nothing that this does not support. Where it lacks the answer, say that it could not be seen.\n"
        "- Keep every doubt: what is only likely or unclear there stays likely or unclear.\n"
        "- Do not diagnose, and do not advise treatment.\n"
        "- Write the answer only, short and plain.\n\nObservations:\n{observations}{hints}\n\nQuestion: {question}"
    ),
}
_MEASURED = {"ko": "측정값 (틀릴 수 있습니다):", "en": "Measurements (may be wrong):"}


def language_of(text: str, otherwise: Language = "en") -> Language:
    """Korean as soon as a text holds Hangul, English when it holds Latin letters only, else `otherwise`."""
    if _HANGUL.search(text):
        return "ko"
    return "en" if _LATIN.search(text) else otherwise


def answer_in(language: Language) -> str:
    """The request to answer in a language other than the question's."""
    return _ANSWER_IN[language]


def look_at(question: str) -> str:
    """A question for a model that only looks: in English, whatever the question's language, and short."""
    return f"{question} {answer_in('en')} {_LOOK}"


def with_report(system: str, report: str) -> str:
    """The system prompt with a report that stays in view however far the conversation goes."""
    return f"{system}\n\nReport:\n{report}"


def brief(question: str, observations: str, hints: Sequence[str], language: Language) -> str:
    """What a writer is told, who answers `question` in `language` without the picture. `hints` are the evidence lines."""
    measured = "\n".join(["\n", _MEASURED[language], *hints]) if hints else ""
    return _BRIEF[language].format(observations=observations, hints=measured, question=question)


def place(box: Box, image_size: tuple[int, int], language: Language) -> str:
    """Where the centre of `box` lies on an image of (width, height), on a grid of three by three."""
    column = min(2, (box.left + box.right) * 3 // (2 * image_size[0]))
    row = min(2, (box.top + box.bottom) * 3 // (2 * image_size[1]))
    words = _ROWS[language][row], _COLUMNS[language][column]
    if row == column == 1:
        return words[1]
    # Korean names the column first, but for the middle one: 왼쪽 위, 위 가운데.
    return " ".join(reversed(words) if language == "ko" and column != 1 else words)


def close_up(box: Box, image_size: tuple[int, int], language: Language) -> str:
    """The words before a crop."""
    where = place(box, image_size, language)
    return f"확대, {where}:" if language == "ko" else f"Close-up, {where}:"


def overlay_caption(language: Language) -> str:
    """The words before a film that is shown under its saliency map."""
    return "주목 지도를 겹친 그림:" if language == "ko" else "The same picture under its attention map:"


def _peak_line(peak: Peak, language: Language) -> str:
    return _EVIDENCE[language]["peak"].format(side=_SIDES[language][peak.side], zone=_ZONES[language][peak.zone])


def evidence_lines(evidence: Evidence, language: Language) -> list[str]:
    """The hedged lines that stand for `evidence` in a prompt; none when there is nothing to say.

    Of a picture that is no film nothing is said: why the classifier kept silent is for the person, not about the picture.
    """
    if not evidence.is_in_domain:
        return []
    words, names = _EVIDENCE[language], _LABELS[language]
    lines: list[str] = []
    if evidence.findings and not evidence.is_withheld and "labels" in evidence.items:
        named = [names.get(label, label) for label in evidence.labels]
        joined = (", " if language == "ko" else " and ").join(named)
        kind = ("none", "one", "several")[min(2, len(named))]
        lines.append(words[kind].format(labels=joined))
    for finding in () if evidence.is_withheld else evidence.findings:
        if "labels" in evidence.items:
            label = names.get(finding.label, finding.label)
            lines.append(words["probability"].format(label=label, percent=min(99, max(1, round(100 * finding.probability)))))
        if "map" in evidence.items and finding.trusted and finding.peak:
            lines.append(_peak_line(finding.peak, language))
            if finding.inside is not None:
                lines.append(words["inside"].format(percent=round(100 * finding.inside)))
    lines += [words[note] for note in evidence.notes if note != "map_untrusted" or "map" in evidence.items]
    return [words["head"], *lines] if lines else []


def section_prompt(section: str, language: Language) -> str:
    """The question that asks for one of the report's `SECTIONS`."""
    return _SECTIONS[language][section]


def search_prompt(language: Language, thing: str | None = None) -> str:
    """The closed question of a search: about the reference picture, or about `thing` (with its article or particle)."""
    return _SEARCH_TEXT[language].format(thing=thing) if thing else _SEARCH_REFERENCE[language]
