"""Words: every string of the page, in Korean and English, and every error as a sentence for the person.

Knows languages and error classes. Does not know pages, components or engines; what a model reads is `chat/wording.py`.
"""

import json

from chat.assistant import RequestError
from chat.engine.base import DoesNotFit, EngineError, EngineRefused, EngineUnavailable, OutOfMemory
from chat.line import LineError
from chat.ui.evidence_words import EVIDENCE, REFUSALS
from chat.ui.line_words import LINE, PLACE
from chat.ui.remote_words import REMOTE
from chat.ui.search_words import SEARCH
from chat.ui.study_words import STUDY
from chat.ui.writer_words import WRITER
from chat.wording import Language
from vision.evidence import CheckpointError
from vision.study import StudyError

WORDS: dict[Language, dict[str, str]] = {
    "ko": {
        # the bar
        "tagline": "이미지와 나누는 대화",
        "to_dark": "어두운 화면으로",
        "to_light": "밝은 화면으로",
        "language": "언어",
        "model": "지금 답하는 모델",
        # the image
        "image": "이미지",
        "drop_title": "이미지를 여기에 놓으세요",
        "drop_hint": "붙여넣거나, 눌러서 고를 수도 있습니다",
        "formats": "DICOM · JPEG · PNG · WEBP · BMP · TIFF · GIF",
        "drop_anywhere": "놓으면 이 이미지로 새 대화를 시작합니다",
        "reading": "이미지를 읽는 중…",
        "new_image": "새 이미지",
        "remove_image": "빼기",
        "region_hint": "이미지 위를 끌면 그 부분만 골라 물을 수 있습니다",
        "region": "고른 부분",
        "remove_region": "고른 부분 지우기",
        "examples": "예제로 시작하기",
        # the talk
        "conversation": "대화",
        "welcome_title": "무엇이 보이는지 물어보세요",
        "welcome_text": "이미지를 놓고 한국어나 영어로 질문하세요. 이어서 묻는 말도 앞의 대화를 기억하고 답합니다.",
        "ready_title": "이 이미지에 대해 물어보세요",
        "ready_text": "아래 질문으로 시작하거나 직접 적어 보세요.",
        "placeholder": "이 이미지에 대해 묻기",
        "placeholder_empty": "먼저 이미지를 놓아 주세요",
        "keys": "Enter 보내기 · Shift+Enter 줄 바꿈 · Esc 멈춤",
        "send": "보내기",
        "stop": "멈추기",
        "stopping": "멈추는 중…",
        "you": "나",
        "thinking": "보는 중…",
        "looking": "가까이 보는 중… {crop}/{crops}",
        "queued": "차례를 기다리는 중…",
        "regenerate": "다시 답하기",
        "undo": "되돌리기",
        "edit": "질문 고치기",
        "copy": "복사",
        "copied": "복사했습니다",
        "clear": "대화 지우기",
        "editing": "마지막 질문을 고치는 중",
        "cancel": "취소",
        "close": "닫기",
        "stopped": "여기서 멈췄습니다",
        "cut": "길이 제한에 닿아 여기서 끊겼습니다",
        "first_token": "첫 토큰 {seconds}초",
        "speed": "{speed} 토큰/초",
        "tokens": "{tokens} 토큰",
        "answers_next": "다음 질문에 답할 모델",
        "side_by_side": "두 모델을 나란히",
        "pin": "판독문 고정",
        "pin_on": "고정한 판독문",
        "pin_hint": "대화를 지우거나 이미지를 바꿀 때까지 모델이 질문마다 함께 읽습니다. 저장하지 않습니다.",
        "left_window": "이 위의 대화는 더 이상 모델이 보지 않습니다",
        "remembers": "기억하는 대화 {kept}/{limit}",
        "token_use": "토큰 {used} / {limit}",
        # the panels
        "views": "모델이 본 것",
        "views_none": "질문하면 모델에 준 그림을 여기에 그대로 보여 줍니다.",
        "view_overview": "전체",
        "view_tile": "확대",
        "view_region": "고른 부분",
        "window": "기억",
        "window_none": "아직 나눈 대화가 없습니다. 최근 {limit}번의 문답을 기억합니다.",
        "window_in": "기억함",
        "window_left": "잊음",
        "window_note": "한 번에 {limit}토큰까지 봅니다. 마지막 질문에는 {used}토큰을 썼습니다.",
        "prompt": "실제 프롬프트",
        "prompt_none": "질문하면 모델에 보낸 글을 그대로 보여 줍니다.",
        "prompt_hash": "SHA-256",
        "settings": "답변 설정",
        "temperature": "온도",
        "temperature_info": "0이면 늘 가장 그럴듯한 말을 고릅니다",
        "top_p": "Top-p",
        "top_p_info": "이 확률 안의 말에서만 고릅니다",
        "max_new_tokens": "가장 긴 답 (토큰)",
        "seed": "시드",
        "seed_info": "비우면 매번 다르게 답합니다",
        "crops": "큰 이미지는 나눠서 가까이 보기",
        "crops_info": "전체 그림과 함께 확대한 조각도 줍니다",
        "system_prompt": "시스템 프롬프트",
        "about": "모델",
        "about_embedded": "지금은 Hilum에 들어 있는 작은 모델이 답합니다. 써 보기 위한 모델이라 자주 틀립니다.",
        "about_other": "LLaVA-1.5-7B로 바꾸려면 체크포인트를 weights/ 폴더에 두고 다시 시작하세요. 방법은 README에 있습니다.",
        "about_model": "{name} 모델이 이 컴퓨터에서 답합니다.",
        "about_beside": "{name} 모델이 이 컴퓨터의 다른 프로그램({host})에서 답합니다. 그림과 대화는 그 프로그램으로 갑니다.",
        "about_remote": "{name} 모델이 {host}에서 답합니다. 물을 때마다 그림과 대화가 이 컴퓨터를 떠나 그곳으로 갑니다.",
        "about_unencrypted": "암호화되지 않은 연결(http)이라 그림과 글, 키를 중간에서 볼 수 있습니다. https를 쓰세요.",
        "device": "장치",
        "precision": "정밀도",
        "memory": "메모리",
        "memory_four": "{needed} GB가 드는데 {free} GB가 비어 4비트로 줄였습니다. 첫 단어는 늦고 그다음은 빠릅니다.",
        "memory_sixteen": "{needed} GB가 드는데 {free} GB가 비어 줄이지 않았습니다. 4비트보다 첫 단어가 빠릅니다.",
        "address": "주소",
        "promise": "Hilum은 가르치고 돕습니다. 진단하지 않습니다.",
        "kept": "이미지와 대화는 저장하지 않으며, 이 컴퓨터를 떠나지 않습니다.",
        "kept_remote": "Hilum은 이미지와 대화를 저장하지 않습니다. 물을 때마다 그림과 대화를 {host}에 보냅니다.",
    },
    "en": {
        "tagline": "a conversation with an image",
        "to_dark": "Switch to dark",
        "to_light": "Switch to light",
        "language": "Language",
        "model": "The model that answers",
        "image": "Image",
        "drop_title": "Drop an image here",
        "drop_hint": "or paste it, or click to choose a file",
        "formats": "DICOM · JPEG · PNG · WEBP · BMP · TIFF · GIF",
        "drop_anywhere": "Drop it to start a new conversation about it",
        "reading": "Reading the image…",
        "new_image": "New image",
        "remove_image": "Remove",
        "region_hint": "Drag over the image to ask about one part of it",
        "region": "Your part",
        "remove_region": "Remove this part",
        "examples": "Start with an example",
        "conversation": "Conversation",
        "welcome_title": "Ask what it sees",
        "welcome_text": "Add an image and ask in Korean or English. Follow-up questions are answered in context.",
        "ready_title": "Ask about this image",
        "ready_text": "Start with one of these, or type your own.",
        "placeholder": "Ask about this image",
        "placeholder_empty": "Add an image first",
        "keys": "Enter sends · Shift+Enter for a new line · Esc stops",
        "send": "Send",
        "stop": "Stop",
        "stopping": "Stopping…",
        "you": "You",
        "thinking": "Looking…",
        "looking": "Looking closer… {crop}/{crops}",
        "queued": "Waiting for its turn…",
        "regenerate": "Regenerate",
        "undo": "Undo",
        "edit": "Edit question",
        "copy": "Copy",
        "copied": "Copied",
        "clear": "Clear conversation",
        "editing": "Editing the last question",
        "cancel": "Cancel",
        "close": "Close",
        "stopped": "Stopped here",
        "cut": "Cut here by the length limit",
        "first_token": "first token {seconds} s",
        "speed": "{speed} tokens/s",
        "tokens": "{tokens} tokens",
        "answers_next": "Which model answers next",
        "side_by_side": "Both models side by side",
        "pin": "Pin a report",
        "pin_on": "Pinned report",
        "pin_hint": "The model reads it with every question, until you clear the conversation or change the image. Not stored.",
        "left_window": "The model no longer sees what is above this line",
        "remembers": "Remembers {kept} of {limit} turns",
        "token_use": "{used} / {limit} tokens",
        "views": "What the model saw",
        "views_none": "Ask something, and the very pictures given to the model appear here.",
        "view_overview": "Whole",
        "view_tile": "Close-up",
        "view_region": "Your part",
        "window": "Memory",
        "window_none": "Nothing said yet. The last {limit} exchanges are remembered.",
        "window_in": "in",
        "window_left": "left",
        "window_note": "The model sees {limit} tokens at a time. The last question used {used}.",
        "prompt": "The exact prompt",
        "prompt_none": "Ask something, and the very text sent to the model appears here.",
        "prompt_hash": "SHA-256",
        "settings": "Answer settings",
        "temperature": "Temperature",
        "temperature_info": "0 always takes the likeliest word",
        "top_p": "Top-p",
        "top_p_info": "choose among words up to this probability",
        "max_new_tokens": "Longest answer (tokens)",
        "seed": "Seed",
        "seed_info": "empty: a different answer every time",
        "crops": "Look closer at large images",
        "crops_info": "gives enlarged pieces along with the whole",
        "system_prompt": "System prompt",
        "about": "Model",
        "about_embedded": "The small model inside Hilum is answering. It is for trying Hilum out, and is often wrong.",
        "about_other": "To use LLaVA-1.5-7B instead, put its checkpoint into weights/ and start again. The README says how.",
        "about_model": "{name} answers, on this computer.",
        "about_beside": "{name} answers, in another program on this computer ({host}): pictures and words go there.",
        "about_remote": "{name} answers, at {host}: pictures and words leave this computer and go there.",
        "about_unencrypted": "This connection (http) is not encrypted: others can read pictures, words and key. Use https.",
        "device": "Device",
        "precision": "Precision",
        "memory": "Memory",
        "memory_four": "It needs {needed} GB and {free} GB were free, so it is in 4 bits: a later first word, then faster.",
        "memory_sixteen": "It needs {needed} GB and {free} GB were free, so it is not in 4 bits: a sooner first word.",
        "address": "Address",
        "promise": "Hilum teaches and assists. It never diagnoses.",
        "kept": "Nothing is kept: images and words stay in memory, on this computer.",
        "kept_remote": "Hilum keeps nothing. Each question sends the pictures and the conversation to {host}.",
    },
}

ERRORS: dict[Language, dict[str, str]] = {
    "ko": {
        "request.empty_question": "질문을 먼저 적어 주세요.",
        "request.no_image": "이미지를 먼저 놓은 다음 물어봐 주세요.",
        "request.busy": "앞의 질문에 답하는 중입니다. 끝나거나 멈춘 다음 물어봐 주세요.",
        "request.upload_lost": "올린 파일이 도착하지 않았습니다. 다시 놓아 주세요.",
        "request.upload_too_large": "파일이 너무 큽니다. {limit}까지 올릴 수 있습니다.",
        "request.outside_image": "고른 부분이 이미지 밖에 있습니다. 이미지 안에서 다시 골라 주세요.",
        "request.bad_seed": "시드는 0 이상의 정수여야 합니다. 비워 두면 매번 다르게 답합니다.",
        "request.options_not_json": "options는 JSON 객체여야 합니다. 예: {example}",
        "request.no_adapter": "어댑터 없이 시작했습니다. HILUM_ADAPTER=폴더 로 다시 시작하거나 adapter를 빼세요.",
        "request.unknown_option": "options에 '{name}' 항목은 없습니다. 쓸 수 있는 항목: {known}.",
        "request.bad_option": "options의 '{name}' 값을 쓸 수 없습니다. {allowed} 값이어야 합니다.",
        "engine.unavailable": "모델을 쓸 수 없습니다. Hilum을 다시 시작해 주세요. 터미널에 까닭이 적혀 있습니다.",
        "engine.refused": "모델이 이 질문을 받지 않았습니다. 설정을 확인해 주세요.",
        "engine.memory": "메모리가 모자랍니다. 답을 짧게 하거나, 가까이 보기를 끄고 다시 물어봐 주세요.",
        "engine.fit": "너무 깁니다. {needed}토큰 중 {available}토큰만 들어갑니다. 질문, 판독문, 가장 긴 답을 줄여 주세요.",
        "engine.other": "모델이 답하지 못했습니다. 다시 물어봐 주세요.",
        "unexpected": "예상하지 못한 문제가 생겼습니다. 다시 해 보시고, 되풀이되면 터미널의 기록을 확인해 주세요.",
    },
    "en": {
        "request.empty_question": "Type a question first.",
        "request.no_image": "Add an image first, then ask about it.",
        "request.busy": "The last question is still being answered. Ask again when it has ended, or stop it.",
        "request.upload_lost": "The file did not arrive. Please drop it again.",
        "request.upload_too_large": "This file is too large; up to {limit} can be added.",
        "request.outside_image": "That part lies outside the image. Choose one inside it.",
        "request.bad_seed": "The seed must be a whole number from 0 on. Leave it empty for a different answer every time.",
        "request.options_not_json": "options must be a JSON object, such as {example}.",
        "request.no_adapter": "This Hilum has no adapter. Start it with HILUM_ADAPTER=FOLDER, or leave adapter out of options.",
        "request.unknown_option": "options has no '{name}'. It takes: {known}.",
        "request.bad_option": "The value of '{name}' in options cannot be used; it must be {allowed}.",
        "engine.unavailable": "The model is not available. Start Hilum again; the terminal says why.",
        "engine.refused": "The model did not take this question. Check the settings.",
        "engine.memory": "There is too little memory. Ask for a shorter answer, or turn off looking closer, and ask again.",
        "engine.fit": "Too long: {needed} tokens, and {available} fit. Shorten question, pinned report or longest answer.",
        "engine.other": "The model could not answer. Please ask again.",
        "unexpected": "Something unexpected went wrong. Try again; if it happens again, look at the terminal.",
    },
}
for language, sentences in REMOTE.items():
    ERRORS[language] |= sentences | REFUSALS[language] | SEARCH[language] | LINE[language] | STUDY[language]
    WORDS[language] |= WRITER[language] | EVIDENCE[language] | PLACE[language]


def words(language: Language, **more: str) -> str:
    """All words and `more` as one JSON text: in the browser Gradio copies every leaf of a value several times per drawing."""
    return json.dumps(WORDS[language] | more)


def word(key: str, language: Language, **fields: int | float | str) -> str:
    """One string of the page; integers are written with separators."""
    return _filled(WORDS[language][key], fields)


def explain(error: Exception, language: Language) -> str:
    """The sentence for an error, by its class and fields; its own text is for logs."""
    fields = dict(error.fields) if isinstance(error, StudyError | RequestError | EngineError | CheckpointError) else {}
    if isinstance(error, DoesNotFit):
        fields = {"needed": error.needed, "available": error.available}
    return _filled(ERRORS[language][_key(error)], fields)


def _key(error: Exception) -> str:
    if isinstance(error, StudyError | RequestError):
        return f"{'study' if isinstance(error, StudyError) else 'request'}.{error.reason}"
    if isinstance(error, CheckpointError) and error.reason:
        return f"checkpoint.{error.reason}"
    if isinstance(error, EngineError) and error.reason:
        return f"{'line' if isinstance(error, LineError) else 'remote'}.{error.reason}"
    kinds = {DoesNotFit: "fit", OutOfMemory: "memory", EngineRefused: "refused", EngineUnavailable: "unavailable"}
    kinds[EngineError] = "other"
    return next((f"engine.{name}" for kind, name in kinds.items() if isinstance(error, kind)), "unexpected")


def _filled(text: str, fields: dict[str, int | float | str] | dict[str, int | str]) -> str:
    return text.format(**{name: f"{value:,}" if isinstance(value, int) else value for name, value in fields.items()})
