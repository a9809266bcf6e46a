"""The sentences for what cannot be searched or inspected, in Korean and English."""

from chat.wording import Language

SEARCH: dict[Language, dict[str, str]] = {
    "ko": {
        "request.nothing_wanted": "찾을 것이 없습니다. 기준 그림을 주거나 무엇을 찾을지 적어 주세요.",
        "request.no_budget": "찾는 데 쓸 횟수가 0입니다. 1 이상을 주세요.",
        "request.bad_budget": "예산 {budget}을(를) 읽을 수 없습니다. 횟수는 24, 시간은 30s처럼 적어 주세요.",
        "request.reference_too_small": "기준 그림이 너무 작습니다. 한 변이 8픽셀 이상인 것을 골라 주세요.",
        "request.reference_too_large": "기준 그림이 찾을 이미지보다 큽니다. 줄이거나 두 그림을 바꾸어 주세요.",
        "request.reference_blank": "기준 그림에 한 가지 색밖에 없습니다. 찾을 것이 보이는 그림을 골라 주세요.",
        "request.no_normal": "정상 이미지에서 반복되는 구조를 찾지 못했습니다. 다른 폴더를 고르거나 --normal을 빼 주세요.",
    },
    "en": {
        "request.nothing_wanted": "There is nothing to look for. Give a reference picture or a description.",
        "request.no_budget": "The search has a budget of 0. Give it at least 1 look.",
        "request.bad_budget": "The budget {budget} cannot be read. Write looks as 24, or seconds as 30s.",
        "request.reference_too_small": "The reference is too small. Choose one with at least 8 pixels a side.",
        "request.reference_too_large": "The reference is larger than the image. Shrink it, or swap the two.",
        "request.reference_blank": "The reference shows nothing but one colour. Choose one that shows what to find.",
        "request.no_normal": "Nothing repeats in the normal images. Choose another folder, or leave out --normal.",
    },
}
