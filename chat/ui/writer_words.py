"""What is said on the page where a second model writes the answers, in Korean and English.

Knows the words only. Does not know how such a model is asked, or where it runs.
"""

from chat.wording import Language

WRITER: dict[Language, dict[str, str]] = {
    "ko": {
        "observations": "모델이 본 것",
        "writing": "쓰는 중…",
        "writer": "글 쓰는 모델",
        "writer_failed": "글 쓰는 모델이 답하지 못해, 그림을 본 모델의 말을 그대로 보여 드립니다. {why}",
        "writer_broke_off": "글 쓰는 모델이 끝까지 쓰지 못했습니다. {why}",
        "writer_prompt": "글 쓰는 모델에 보낸 글",
        "writer_here": "답은 {name} 모델이 이 컴퓨터에서, 그림을 본 모델의 말만 보고 씁니다.",
        "writer_beside": "답은 {name} 모델이 이 컴퓨터의 다른 프로그램({host})에서 씁니다. 그림은 빼고 글만 보냅니다.",
        "writer_remote": "답은 {name} 모델이 {host}에서 씁니다. 물을 때마다 그림은 빼고 글만 그곳으로 갑니다.",
        "writer_unencrypted": "글 쓰는 모델과의 연결(http)은 암호화되지 않아 중간에서 볼 수 있습니다. https를 쓰세요.",
        "kept_writer": "Hilum은 이미지와 대화를 저장하지 않습니다. 물을 때마다 그림은 빼고 글만 {writer}에 보냅니다.",
        "kept_both": (
            "Hilum은 이미지와 대화를 저장하지 않습니다. 물을 때마다 그림과 대화를 {host}에, 그림 없이 글만 {writer}에 보냅니다."
        ),
    },
    "en": {
        "observations": "What the model saw",
        "writing": "Writing…",
        "writer": "Writer",
        "writer_failed": "The writer did not answer, so this is what the model that saw the picture said. {why}",
        "writer_broke_off": "The writer did not finish. {why}",
        "writer_prompt": "The text sent to the writer",
        "writer_here": "{name} writes the answers, on this computer, from nothing but what the first model saw.",
        "writer_beside": "{name} writes the answers, in another program here ({host}): words go there, no pictures.",
        "writer_remote": "{name} writes the answers, at {host}: words leave this computer and go there, pictures do not.",
        "writer_unencrypted": "The connection to the writer (http) is not encrypted: others can read words and key. Use https.",
        "kept_writer": "Hilum keeps nothing. Pictures stay on this computer; each question sends the words to {writer}.",
        "kept_both": (
            "Hilum keeps nothing. Each question sends the pictures and the conversation to {host}, "
            "and words without pictures to {writer}."
        ),
    },
}
