"""Korean sentences about scenes: the answers.

Knows sentences with fields. Does not know scenes or which of them is true.
"""

from finetune.scene_words import phrases

_ANSWERS = {
    "colour": """{it:은} {colour:이에요}. | {it:은} {colour}입니다. | {it}의 색은 {colour}입니다.
        {it}의 색깔은 {colour:이에요}. | {colour}으로 보여요.""",
    "shape": """{it:은} {kind:이에요}. | {it:은} {kind}입니다. | {it}의 모양은 {kind}입니다. | {kind} 모양이에요.
        {it:은} {kind} 모양입니다.""",
    "position": """{it:은} {where}에 있어요. | {it:은} {where}에 있습니다. | {it:이} {where}에 보여요.
        {it:은} 그림의 {where}에 있습니다. | {where}에 있어요. | {it}의 위치는 {where}입니다.""",
    "count_many": """{places}: 모두 {number}예요. | {places}: 모두 {number}입니다. | {places}: {thing:은} {number}예요.
        {places}에 있어요. {thing:은} 모두 {number}예요. | {places}에 있습니다. {thing:은} 모두 {number}입니다.
        {places}에 있어서 {thing:은} {number}입니다. | 세어 보면 {places}: 그래서 {number}예요.
        {places}에 보이니 {thing:이} {number} 있습니다. | 차례대로 {places}: 합해서 {number}입니다.""",
    "count_one": """{places}: {number}예요. | {places}: {number}입니다. | {places}: {thing:은} {number}뿐이에요.
        {places}에 있어요. {thing:은} {number}예요. | {places}에 있습니다. {thing:은} {number}입니다.
        {places}에 보이니 {thing:이} {number} 있습니다.""",
    "count_none": "{thing:은} 없어요. | {thing:은} 없습니다. | {thing:은} 하나도 없어요. | 그림에 {thing:은} 없어요.",
    "yes_place": """{where}에 {thing:이} 있어요. | {where}에 {thing:이} 있습니다. | {where}에 {thing:이} 보여요.
        {thing:이} {where}에 있습니다.""",
    "yes_one": """{thing:이} 있어요. | {thing:이} 있습니다. | {thing:이} 보여요. | 그림에 {thing:이} 하나 있습니다.
        {thing:이} 하나 있어요.""",
    "yes_many": """{places}에 {thing:이} 있어요. | {places}에 {thing:이} 있습니다. | {places}에 {thing:이} 보여요.
        {thing:이} {places}에 보입니다.""",
    "yes_some": "{thing:이} 있어요. | {thing:이} 있습니다. | {thing:이} 보여요. | {thing:이} 여러 개 있습니다.",
    "no": """{thing:은} 없어요. | {thing:은} 없습니다. | {thing:은} 보이지 않아요. | 그림에 {thing:은} 없습니다.
        {thing:은} 보이지 않습니다.""",
    "no_colour": """{kind:은} 하나인데 {colour:이에요}. | {thing:은} 없고 {kind:은} {colour}입니다.
        하나뿐인 {kind:은} {colour:이에요}. | {kind:은} 있지만 {colour}입니다.""",
    "no_kind": """{colour} 도형은 {kind}뿐이에요. | {thing:은} 없고 {colour} 도형은 {kind}입니다.
        {colour} 도형은 하나인데 {kind:이에요}. | {colour} 도형은 {kind} 하나입니다.""",
    "size": """{it:은} {sized}. | {it:은} {size} {noun:이에요}. | {it:은} {size} {noun}입니다. | {it}의 크기는 {rank:이에요}.
        {it}의 크기는 {rank}입니다.""",
    "largest": """가장 큰 도형은 {item:이에요}. | 가장 큰 것은 {item}입니다. | {item:이} 가장 커요. | {item:이} 가장 큽니다.
        제일 큰 도형은 {item}입니다.""",
    "smallest": """가장 작은 도형은 {item:이에요}. | 가장 작은 것은 {item}입니다. | {item:이} 가장 작아요.
        {item:이} 가장 작습니다. | 제일 작은 도형은 {item}입니다.""",
    "relation": """{it:은} {other}보다 {side}에 있어요. | {it:은} {other}보다 {side}에 있습니다.
        {it:이} {other}의 {side}에 있어요. | {it:이} {other}보다 {side}에 보입니다.""",
    "boxed": """{it:이에요}. | {it}입니다. | {it:이} 있어요. | {it:이} 보입니다.
        그것은 {it:이에요}. | 거기에는 {it:이} 있습니다.""",
    "each": """{list:이} 있어요. | {list:이} 있습니다. | {list:이} 보여요. | 차례대로 {list:이} 보입니다.""",
    "describe": """{ground} 배경에 {list:이} 있어요. | {ground} 배경에 {list:이} 있습니다.
        그림에는 {ground} 배경에 {list:이} 있습니다. | {ground} 바탕 위에 {list:이} 보여요.
        배경은 {ground}이고 {list:이} 있어요.""",
    "read": """{text:라고} 쓰여 있어요. | {text:라고} 쓰여 있습니다. | {text:라고} 적혀 있어요. | 글자는 {text}입니다.
        글자는 {text:이에요}.""",
    "read_none": """글자가 없어요. | 글자가 없습니다. | 그림에 글자는 없어요. | 쓰여 있는 글자가 없습니다.
        글자나 숫자는 없습니다.""",
    "background": """배경은 {colour:이에요}. | 배경은 {colour}입니다. | 배경색은 {colour}입니다. | 배경이 {colour:이에요}.
        그림의 배경은 {colour}입니다.""",
    "domain": "{of} 그림이에요. | {of} 그림입니다. | 이것은 {of} 그림입니다. | X선이나 사진이 아니라 {of} 그림이에요.",
    "domain_no": """{of} 그림이에요. | 이것은 {of} 그림입니다. | 의료 영상이 아니라 {of} 그림입니다. | {of} 그림만 보여요.
        {of} 그림이라 환자에 대해서는 알 수 없습니다.""",
    "domain_yes": "{of} 그림이에요. | {of} 그림입니다. | 이것은 {of} 그림입니다. | {of} 단순한 그림이에요.",
    "check_read_yes": "{text:라고} 쓰여 있어요. | {text:라고} 쓰여 있습니다. | 글자는 {text}입니다. | {text:라고} 적혀 있어요.",
    "check_read_no": "글자가 없어요. | 글자가 없습니다. | 쓰여 있는 것이 없어요. | 글자나 숫자는 보이지 않습니다.",
    "sure_요": "확실해요. {core} | 맞아요. {core} | 다시 봐도 {core} | 틀림없어요. {core}",
    "sure_다": "확실합니다. {core} | 맞습니다. {core} | 다시 봐도 {core} | 틀림없습니다. {core}",
}
ANSWERS = {key: phrases(text) for key, text in _ANSWERS.items()}
RANKS = {"small": "작은 편", "medium": "중간", "large": "큰 편"}
SIZED = {"small": ("작아요", "작습니다"), "medium": ("중간 크기예요", "중간 크기입니다"), "large": ("커요", "큽니다")}
SIDES = {"left": "왼쪽", "right": "오른쪽", "above": "위쪽", "below": "아래쪽"}
