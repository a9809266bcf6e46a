"""The report's words, in Korean and English: the notice, titles, and what is said beside a sentence or a section.

Knows languages. Does not know evidence, engines or file formats; what the rules write is `chat/report_sentences.py`'s.
"""

from chat.wording import Language

NOTICE: dict[Language, str] = {
    "ko": "이 보고서는 배우고 연구하는 데 쓰는 참고 자료이며 진단이 아닙니다. 틀릴 수 있으니 진단과 치료는 의사와 상의하세요.",
    "en": "This report is an aid for learning and research, not a diagnosis. It can be wrong; ask a doctor about any decision.",
}

CONTINUE: dict[Language, str] = {
    "ko": "끊긴 곳부터 이어서 쓰세요. 이미 쓴 말은 되풀이하지 마세요.",
    "en": "Go on from where you stopped. Do not repeat what is already written.",
}
"""What a model reads whose section the token limit cut; the answer so far stands before it."""

TITLES: dict[Language, dict[str, str]] = {
    "ko": {
        "report": "영상 참고 보고서",
        "summary": "종합 판단",
        "looked_at": "무엇을 보았고 지도를 어떻게 읽는가",
        "next": "다음에 확인할 것",
        "quality": "영상 품질과 표지에서 조심할 것",
        "probabilities": "분류기의 확률 (보정됨)",
        "overlay": "분류기가 눈여겨본 정도를 겹친 그림. 병이 있는 자리를 뜻하지 않습니다.",
        "made": "이 보고서를 만든 것",
        "written_by": "쓴 이",
        "model": "모델",
        "seed": "시드",
        "page": "{page} / {pages}쪽",
        "short_notice": "진단이 아닙니다",
    },
    "en": {
        "report": "Image reading aid",
        "summary": "Summary judgement",
        "looked_at": "What was looked at, and how to read the map",
        "next": "What to check next",
        "quality": "Cautions on image quality and labelling",
        "probabilities": "The classifier's probabilities (calibrated)",
        "overlay": "How much the classifier attended to each part. It does not show where a disease is.",
        "made": "How this report was made",
        "written_by": "Written by",
        "model": "Model",
        "seed": "Seed",
        "page": "Page {page} of {pages}",
        "short_notice": "Not a diagnosis",
    },
}

WRITTEN_BY: dict[Language, dict[str, str]] = {
    "ko": {"model": "언어 모델", "rules": "정해진 규칙", "both": "언어 모델과 정해진 규칙"},
    "en": {"model": "the language model", "rules": "fixed rules", "both": "the language model and fixed rules"},
}

MARKS: dict[Language, dict[str, str]] = {
    "ko": {
        # about one sentence
        "label": "분류기의 판단과 다릅니다",
        "side": "지도가 가리키는 쪽과 다릅니다",
        "zone": "지도가 가리키는 높이와 다릅니다",
        "map": "믿을 만한 지도가 없습니다",
        "number": "근거에 없는 숫자입니다",
        "certain": "이만큼 확신할 근거가 없습니다",
        "treatment": "치료는 의사가 정합니다",
        "by_rule": "규칙으로 쓴 문장",
        # about a section
        "empty": "모델이 쓴 글이 없어 규칙으로 썼습니다.",
        "wrong_language": "모델이 다른 언어로 써서 규칙으로 쓴 글로 바꾸었습니다.",
        "repeats": "모델이 같은 말을 되풀이해 규칙으로 쓴 글로 바꾸었습니다.",
        "never_ended": "모델의 글이 한 문장도 끝나지 않아 규칙으로 쓴 글로 바꾸었습니다.",
        "engine_failed": "모델이 답하지 못해 규칙으로 썼습니다.",
        "not_asked": "흉부 X선이 아니어서 모델에 묻지 않고 규칙으로 썼습니다.",
        "cut": "길이 제한에 닿아 마지막으로 끝난 문장까지만 실었습니다.",
        "shortened": "모델의 글이 길어 앞의 세 문장만 실었습니다.",
        # about the report
        "stopped": "여기서 멈췄으므로 빠진 부분이 있습니다.",
    },
    "en": {
        "label": "differs from the classifier",
        "side": "not the side that the map points to",
        "zone": "not the height that the map points to",
        "map": "no trusted map supports this",
        "number": "this number is not in the evidence",
        "certain": "more certain than the evidence allows",
        "treatment": "treatment is a doctor's decision",
        "by_rule": "written by rule",
        "empty": "The model wrote nothing here, so this was written by rule.",
        "wrong_language": "The model wrote in another language, so this was written by rule.",
        "repeats": "The model repeated itself, so this was written by rule.",
        "never_ended": "The model finished no sentence here, so this was written by rule.",
        "engine_failed": "The model could not answer, so this was written by rule.",
        "not_asked": "As this is no chest X-ray, the model was not asked and this was written by rule.",
        "cut": "The length limit was reached; this ends at the last whole sentence.",
        "shortened": "The model wrote more; the first three sentences are kept.",
        "stopped": "It was stopped here, so parts are missing.",
    },
}

BESIDE: dict[Language, str] = {"ko": "[주의: {notes}]", "en": "[Caution: {notes}]"}
