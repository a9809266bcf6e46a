"""What is said on the page when a model at an address does not answer, in Korean and English.

Knows the reasons of `chat/engine/refusals.py` and `remote.py`. Does not know how they are told apart.
"""

from chat.wording import Language

REMOTE: dict[Language, dict[str, str]] = {
    "ko": {
        "remote.unreachable": "{host}에 연결되지 않습니다. 그곳의 서버가 켜져 있는지, --model 주소가 맞는지 확인해 주세요.",
        "remote.silent": "{host}에서 오랫동안 답이 없습니다. 서버가 움직이는지 확인하고 다시 물어봐 주세요.",
        "remote.not_openai": "{host}의 답은 OpenAI 호환 형식이 아닙니다. --model 주소를 확인해 주세요. 보통 /v1로 끝납니다.",
        "remote.broke_off": "{host}에서 오던 답이 중간에 끊겼습니다. 다시 물어봐 주세요.",
        "remote.busy": "{host}에 일이 너무 많거나 키의 한도를 다 썼습니다. 잠시 뒤에 다시 물어봐 주세요.",
        "remote.busy_for": "{host}에 일이 너무 많거나 키의 한도를 다 썼습니다. {seconds}초 뒤에 다시 물어봐 주세요.",
        "remote.failed": "{host}에서 오류가 났습니다 ({status}). 그곳의 기록을 확인해 주세요.",
        "remote.refused": "{host}에서 이 요청을 받지 않았습니다 ({status}). 설정을 확인해 주세요.",
        "remote.key": "{host}에서 키를 받아들이지 않습니다. HILUM_API_KEY를 확인하고 Hilum을 다시 시작해 주세요.",
        "remote.unknown_model": "{host}에는 {name} 모델이 없습니다. 있는 모델: {known}. --remote-name으로 고르세요.",
        "remote.no_vision": "{name} 모델은 그림을 읽지 못합니다. 그림을 읽는 모델을 --remote-name으로 고르세요.",
        "remote.fewer_images": "{host}에서는 한 번에 그림을 {most}장까지 받습니다. --remote-images {most}로 다시 시작하세요.",
        "remote.too_long": "{name} 모델에게 너무 깁니다. 질문이나 가장 긴 답을 줄여 주세요.",
        "remote.filtered": "서버의 검열에 걸려 답이 멈췄습니다. 다른 말로 물어봐 주세요.",
    },
    "en": {
        "remote.unreachable": "{host} cannot be reached. Start its server, or correct the address in --model.",
        "remote.silent": "{host} has been silent for too long. See whether its server still works, and ask again.",
        "remote.not_openai": "{host} does not answer in the OpenAI-compatible way. Check --model; it mostly ends in /v1.",
        "remote.broke_off": "The answer from {host} broke off. Ask again.",
        "remote.busy": "{host} has too much to do, or the key's quota is used up. Ask again later.",
        "remote.busy_for": "{host} has too much to do, or the key's quota is used up. Ask again in {seconds} seconds.",
        "remote.failed": "{host} failed ({status}). Look at its log.",
        "remote.refused": "{host} did not take this request ({status}). Check the settings.",
        "remote.key": "{host} does not accept the key. Check HILUM_API_KEY and start Hilum again.",
        "remote.unknown_model": "{host} has no model {name}. It has: {known}. Choose one with --remote-name.",
        "remote.no_vision": "{name} does not read pictures. Choose a model that does with --remote-name.",
        "remote.fewer_images": "{host} takes {most} pictures per question. Start Hilum with --remote-images {most}.",
        "remote.too_long": "This is too long for {name}. Shorten the question or the longest answer.",
        "remote.filtered": "The server's filter stopped the answer. Ask in other words.",
    },
}
