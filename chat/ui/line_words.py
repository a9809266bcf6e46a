"""What is said to a person in the line, and to one who is not let in, in Korean and English.

Knows the reasons of `chat/line.py`. Does not know queues or clocks.
"""

from chat.wording import Language

LINE: dict[Language, dict[str, str]] = {
    "ko": {
        "line.line_full": "지금 질문 {most}개가 차례를 기다립니다. 잠시 뒤에 다시 물어봐 주세요.",
        "line.closing": "Hilum이 끝나는 중입니다. Hilum을 다시 시작한 다음 물어봐 주세요.",
        "line.busy": "앞의 요청이 아직 끝나지 않았습니다. 끝나거나 멈춘 다음 다시 해 주세요.",
        "line.deadline": "{minutes}분 안에 끝나지 않아 멈췄습니다. 답을 짧게 하여 다시 물어봐 주세요.",
    },
    "en": {
        "line.line_full": "{most} questions are waiting already. Ask again in a moment.",
        "line.closing": "Hilum is being closed. Start it again, then ask again.",
        "line.busy": "Your last request is still under way. Ask again when it has ended, or stop it.",
        "line.deadline": "Stopped after {minutes} minutes without an end. Ask again for a shorter answer.",
    },
}

PLACE: dict[Language, dict[str, str]] = {
    "ko": {"in_line": "차례를 기다리는 중… 앞에 {ahead}명"},
    "en": {"in_line": "Waiting for its turn… {ahead} ahead"},
}
