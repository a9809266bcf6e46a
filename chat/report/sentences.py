"""Sentences of the rule-based report, in Korean and English: easy words first, the technical term in brackets.

Knows languages. Does not know evidence, engines or file formats. [이/가] and the like stand for the Korean particle that
fits the word before.
"""

from chat.wording import Language

LABELS: dict[Language, dict[str, str]] = {
    "ko": {"NORMAL": "정상(normal)", "PNEUMONIA": "폐렴(pneumonia)"},
    "en": {"NORMAL": "normal", "PNEUMONIA": "lung infection (pneumonia)"},
}
SIDES: dict[Language, dict[str, str]] = {
    "ko": {"right": "오른쪽", "left": "왼쪽"},
    "en": {"right": "right", "left": "left"},
}
ZONES: dict[Language, dict[str, str]] = {
    "ko": {"upper": "위쪽(상부)", "middle": "가운데(중간부)", "lower": "아래쪽(하부)"},
    "en": {"upper": "upper part (upper zone)", "middle": "middle part (middle zone)", "lower": "lower part (lower zone)"},
}
MORE: dict[Language, str] = {"ko": "그 밖의 {count}가지", "en": "{count} more"}
UNDER: dict[Language, str] = {"ko": "1% 미만", "en": "under 1%"}
OVER: dict[Language, str] = {"ko": "99% 초과", "en": "over 99%"}

RULES: dict[Language, dict[str, tuple[str, str, str]]] = {
    "ko": {
        "summary one": (
            "영상을 가려내는 프로그램(분류기, classifier)은 이 사진이 {labels} 쪽에 가깝다고 봅니다.",
            "계산된 확률(보정 확률, calibrated probability)은 {probabilities}입니다.",
            "프로그램은 틀릴 수 있으므로 사진이 우선이고, 마지막 판단은 영상의학과 의사(radiologist)가 합니다.",
        ),
        "summary several": (
            "영상을 가려내는 프로그램(분류기, classifier)은 {labels} 가운데 하나를 고르지 못했습니다.",
            "계산된 확률(보정 확률, calibrated probability)은 {probabilities}입니다.",
            "이럴 때는 어느 쪽으로도 기울지 말고 영상의학과 의사(radiologist)에게 물어보는 것이 좋습니다.",
        ),
        "summary none": (
            "영상을 가려내는 프로그램(분류기, classifier)은 배운 것 가운데 어느 쪽도 뒷받침하지 않았습니다.",
            "계산된 확률(보정 확률, calibrated probability)은 {probabilities}이지만 이 숫자에 기대지 않는 것이 좋습니다.",
            "이 사진은 프로그램이 배운 사진들과 다를 수 있으므로 영상의학과 의사(radiologist)에게 물어보세요.",
        ),
        "summary not_a_radiograph": (
            "이 그림은 가슴을 찍은 X선 사진(흉부 X선, chest radiograph)으로 보이지 않습니다.",
            "그래서 영상을 가려내는 프로그램(분류기, classifier)을 쓰지 않았고, 판정도 확률도 없습니다.",
            "흉부 X선이 맞다면 이 판단이 틀렸을 수 있습니다.",
        ),
        "summary outside_population": (
            "이 사진은 프로그램(분류기, classifier)이 배운 사진들(학습 집단, training population)의 밖에 있습니다.",
            "그래서 판정과 확률을 싣지 않습니다.",
            "이 사진에 대한 판단은 영상의학과 의사(radiologist)에게 맡겨야 합니다.",
        ),
        "summary absent": (
            "이 그림에는 영상을 가려내는 프로그램(분류기, classifier)의 판정이 없습니다.",
            "그래서 규칙만으로는 무엇이 보이는지 말할 수 없습니다.",
            "의학 영상이라면 판단은 영상의학과 의사(radiologist)가 합니다.",
        ),
        "looked_at peak": (
            "{label}[을/를] 가려낼 때 가장 눈여겨본 곳은 환자의 {side} 폐 {zone}입니다(주목 지도, saliency map).",
            "지도의 밝은 색은 눈여겨본 정도를 나타낼 뿐, 병이 있는 자리를 뜻하지 않습니다.",
            "똑바로 찍은 사진이라면 환자의 {side}[은/는] 사진에서 {image_side}에 보입니다.",
        ),
        "looked_at inside": (
            "{label}[을/를] 가려낼 때 가장 눈여겨본 곳은 환자의 {side} 폐 {zone}이고, 지도의 {inside}가 폐 안입니다.", "", "",
        ),
        "looked_at unplaced": (
            "눈여겨본 곳을 나타내는 그림(주목 지도, saliency map)은 있지만 한 부위로 짚어 말할 수 없습니다.",
            "지도의 밝은 색은 눈여겨본 정도를 나타낼 뿐, 병이 있는 자리를 뜻하지 않습니다.",
            "한 곳만 보지 말고 양쪽 폐를 같은 높이끼리 견주어 보세요.",
        ),
        "looked_at map_untrusted": (
            "눈여겨본 곳을 나타내는 그림(주목 지도, saliency map)은 점검을 통과하지 못해 쓰지 않았습니다.",
            "지도가 글자나 관, 테두리에 쏠리거나 조금만 움직여도 바뀌면 믿지 않습니다.",
            "회색으로 보이는 지도는 읽지 말고 사진을 직접 보는 것이 좋습니다.",
        ),
        "looked_at no_map": (
            "눈여겨본 곳을 나타내는 그림(주목 지도, saliency map)이 없습니다.",
            "그래서 어느 부위가 중요했는지 짚어 말하지 않습니다.",
            "지도가 있더라도 밝은 색은 눈여겨본 정도일 뿐, 병이 있는 자리를 뜻하지 않습니다.",
        ),
        "next PNEUMONIA": (
            "열, 기침, 숨참 같은 증상(symptoms)과 검사 결과를 사진과 함께 확인하세요.",
            "이전 사진이 있으면 뿌연 부분(음영, opacity)이 새로 생겼는지 비교하세요.",
            "무엇을 더 할지는 담당 의사(physician)와 상의하세요.",
        ),
        "next NORMAL": (
            "처음에는 변화가 희미할 수 있으므로 열이나 기침 같은 증상(symptoms)이 있는지 확인하세요.",
            "심장 뒤와 폐의 맨 아래(폐 바닥, lung bases)는 놓치기 쉬우니 한 번 더 살펴보세요.",
            "걱정되는 점이 남으면 담당 의사(physician)와 상의하세요.",
        ),
        "next other": (
            "사진을 찍은 까닭과 증상(symptoms), 이전 사진을 함께 확인하세요.",
            "눈에 띄는 곳이 있으면 그 부분을 크게 보고 반대쪽과 비교하세요.",
            "무엇을 더 할지는 담당 의사(physician)와 상의하세요.",
        ),
        "next not_a_radiograph": (
            "흉부 X선을 읽으려던 것이라면 파일을 바르게 골랐는지 확인하세요.",
            "사진을 다시 찍은 화면이라면 원본 파일(PNG나 DICOM)을 올려 보세요.",
            "다른 그림이라면 보고서 대신 대화에서 궁금한 점을 물어보세요.",
        ),
        "next peak": (
            "환자의 {side} 폐 {zone}[을/를] 크게 보고, 같은 높이의 반대쪽과 비교하세요.", "", "",
        ),
        "quality film": (
            "몸이 돌아가거나(회전, rotation) 숨을 얕게 쉬고 찍으면(흡기 부족) 폐가 더 뿌옇게 보일 수 있습니다.",
            "글자, 관, 테두리는 프로그램을 속일 수 있으니 좌우 표지(R/L marker)가 맞는지 확인하세요.",
            "배운 이름표(label)에는 틀린 것이 섞여 있을 수 있고, 배우지 않은 것은 알아보지 못합니다.",
        ),
        "quality picture": (
            "흐리거나 잘리거나 너무 어두운 그림(화질, image quality)은 판단을 흐리게 합니다.",
            "글자, 화살표, 테두리는 프로그램을 속일 수 있으니 없는 그림과 비교하세요.",
            "이 보고서의 규칙은 흉부 X선(chest radiograph)에 맞춘 것이라 다른 그림에는 맞지 않을 수 있습니다.",
        ),
        "quality small": (
            "이 그림은 가로 {width}, 세로 {height} 화소(pixel)로 작아 가는 선이나 작은 점은 보이지 않을 수 있습니다.", "", "",
        ),
        "quality flat": (
            "이 그림은 밝고 어두운 차이(대비, contrast)가 적어 희미한 변화는 보이지 않을 수 있습니다.", "", "",
        ),
    },
    "en": {
        "summary one": (
            "The program that sorts images (the classifier) finds this image closest to {labels}.",
            "Its computed chances (calibrated probabilities) are: {probabilities}.",
            "The program can be wrong, so the image outranks it and the last word is a radiologist's.",
        ),
        "summary several": (
            "The program that sorts images (the classifier) could not choose between {labels}.",
            "Its computed chances (calibrated probabilities) are: {probabilities}.",
            "It is better to lean neither way here, and to ask a doctor who reads images (a radiologist).",
        ),
        "summary none": (
            "The program that sorts images (the classifier) supports none of the labels that it was taught.",
            "Its computed chances (calibrated probabilities) are: {probabilities}, but they are better not relied on.",
            "This image may differ from those it learned from, so ask a doctor who reads images (a radiologist).",
        ),
        "summary not_a_radiograph": (
            "This picture does not look like an X-ray of the chest (a chest radiograph).",
            "So the program that sorts images (the classifier) was not used, and there is no judgement and no probability.",
            "If it is a chest X-ray after all, this refusal may be a mistake.",
        ),
        "summary outside_population": (
            "This image lies outside those that the program (the classifier) learned from (its training population).",
            "So no judgement and no probability are given.",
            "It has to be judged by a doctor who reads images (a radiologist).",
        ),
        "summary absent": (
            "There is no judgement by the program that sorts images (the classifier) for this picture.",
            "So rules alone cannot say what it shows.",
            "If it is a medical image, a doctor who reads images (a radiologist) has to judge it.",
        ),
        "looked_at peak": (
            "For {label}, the program attended most to the {zone} of the patient's {side} lung (by its saliency map).",
            "Bright colours on the map mean attention; they do not show where a disease is.",
            "On a film that is the right way round, the patient's {side} is on the {image_side} of the picture.",
        ),
        "looked_at inside": (
            "For {label}, attention peaks in the {zone} of the patient's {side} lung; {inside} of the map lies in the lungs.",
            "", "",
        ),
        "looked_at unplaced": (
            "There is a map of what the program attended to (a saliency map), but no one place to name.",
            "Bright colours on the map mean attention; they do not show where a disease is.",
            "Compare both lungs at the same height instead of looking at one spot.",
        ),
        "looked_at map_untrusted": (
            "The map of what the program attended to (the saliency map) failed its checks and is not used.",
            "A map is not trusted when it clings to letters, tubes or borders, or changes with a tiny shift.",
            "A map that is shown in grey is better not read; look at the image itself.",
        ),
        "looked_at no_map": (
            "There is no map of what the program attended to (no saliency map).",
            "So no part of the image is named as the one that mattered.",
            "Even where there is a map, bright colours mean attention; they do not show where a disease is.",
        ),
        "next PNEUMONIA": (
            "Check fever, cough and shortness of breath (the symptoms) and test results together with the image.",
            "If there are earlier films, compare whether a hazy area (an opacity) is new.",
            "Ask the doctor in charge (the physician) what to do next.",
        ),
        "next NORMAL": (
            "Early changes can be faint, so check whether there is a fever or a cough (the symptoms).",
            "Look again behind the heart and at the bottom of the lungs (the lung bases), where things are easily missed.",
            "If a worry remains, ask the doctor in charge (the physician).",
        ),
        "next other": (
            "Check why the image was taken, the complaints (symptoms) and earlier images together.",
            "Where something stands out, look at it enlarged and compare it with the other side.",
            "Ask the doctor in charge (the physician) what to do next.",
        ),
        "next not_a_radiograph": (
            "If a chest X-ray was meant, check that the right file was chosen.",
            "If this is a photo of a screen, try the original file (PNG or DICOM).",
            "For any other picture, ask about it in the conversation instead of by a report.",
        ),
        "next peak": (
            "Look at the {zone} of the patient's {side} lung enlarged, and compare it with the other side at the same height.",
            "", "",
        ),
        "quality film": (
            "A turned body (rotation) or a shallow breath (poor inspiration) can make the lungs look hazier than they are.",
            "Letters, tubes and borders can fool the program, so check that the side marker (R/L) is right.",
            "Some of the names it learned from (labels) may be wrong, and what it never learned it cannot recognise.",
        ),
        "quality picture": (
            "A blurred, cropped or very dark picture (its image quality) makes any judgement weaker.",
            "Letters, arrows and borders can fool the program, so compare with a picture that has none.",
            "The rules behind this report are made for chest X-rays (chest radiographs) and may not fit another picture.",
        ),
        "quality small": (
            "This picture is small, {width} by {height} dots (pixels), so thin lines and small spots may not show.", "", "",
        ),
        "quality flat": (
            "Light and dark differ little in this picture (low contrast), so faint changes may not show.", "", "",
        ),
    },
}  # fmt: skip
"""Three sentences per kind of evidence; where the last two are empty, the first replaces another kind's."""
