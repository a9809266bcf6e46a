"""What is said about what Hilum keeps, and about uploads that are not taken in, in Korean and English.

Knows the words only. Does not know what is kept, or where.
"""

from chat.wording import Language

KEPT: dict[Language, dict[str, str]] = {
    "ko": {
        "keeping": "지금 보관 중인 것",
        "check": "다시 확인",
        "forget": "지금 모두 잊기",
        "forgotten": "모두 잊었습니다.",
        "pictures": "메모리의 그림",
        "texts": "메모리의 글",
        "turns": "대화 턴",
        "report": "보고서",
        "files": "메모리 폴더의 파일",
        "elsewhere": "다른 곳에 쓴 파일",
        "sections": "{count}개 항목",
        "nothing": "없음",
        "is_clean": "모두 이 컴퓨터의 메모리에만 있고, Hilum이 시작된 뒤 다른 곳에는 아무것도 쓰지 않았습니다.",
        "is_not_clean": "Hilum이 시작된 뒤 다른 곳에 쓰려고 연 파일이 {count}개 있습니다. 터미널에 그 이름이 있습니다.",
        "is_on_disk": "이 컴퓨터에는 메모리 폴더가 없어, 올린 파일이 읽히기 전 잠깐 디스크에 놓입니다.",
        "until": "Hilum을 끄거나, 오래 묻지 않거나, 지금 모두 잊기를 누르면 사라집니다.",
        "vault_full": "올린 파일을 둘 메모리가 가득 찼습니다. 잠시 뒤에 다시 올리거나 더 작은 파일을 골라 주세요.",
        "upload_too_large": "파일이 너무 큽니다. {limit}까지 올릴 수 있습니다.",
        "bad_upload": "올린 파일을 읽을 수 없습니다. multipart/form-data의 files라는 이름으로 보내 주세요.",
        "not_yours": "다른 브라우저의 것입니다. 페이지를 새로 고쳐 주세요.",
        "not_sent": "이 경로의 파일은 받은 적이 없습니다. 먼저 /gradio_api/upload로 보내고, 돌아온 경로를 적어 주세요.",
        "no_json": "이 요청은 JSON이 아닙니다. JSON으로 보내고, 사진은 /gradio_api/upload로 보내 주세요.",
    },
    "en": {
        "keeping": "What is kept",
        "check": "Check again",
        "forget": "Forget now",
        "forgotten": "All of it is forgotten.",
        "pictures": "Pictures in memory",
        "texts": "Text in memory",
        "turns": "Turns",
        "report": "Report",
        "files": "Files in the memory folder",
        "elsewhere": "Files written elsewhere",
        "sections": "{count} sections",
        "nothing": "none",
        "is_clean": "All of it is in this computer's memory, and since Hilum started nothing was written anywhere else.",
        "is_not_clean": "Since Hilum started, {count} files were opened for writing elsewhere; the terminal names them.",
        "is_on_disk": "This computer has no folder in memory: an upload lies on the disk for the moment until it is read.",
        "until": "It goes when Hilum ends, after a long time without a question, or when you press Forget now.",
        "vault_full": "The memory for uploads is full. Send the file again in a moment, or choose a smaller one.",
        "upload_too_large": "This file is too large; up to {limit} can be sent.",
        "bad_upload": "This upload cannot be read. Send the file as the part named files of multipart/form-data.",
        "not_yours": "This belongs to another browser. Reload the page.",
        "not_sent": "No file was sent by this path. Send it to /gradio_api/upload first, and give the path that comes back.",
        "no_json": "This request is not JSON. Send it as JSON, and pictures to /gradio_api/upload.",
    },
}


def say(key: str, language: Language, **fields: int | str) -> str:
    """One of these sentences."""
    return KEPT[language][key].format(**fields)
