"""English sentences about scenes: the answers.

Knows sentences with fields. Does not know scenes or which of them is true.
"""

from finetune.scene_words import phrases

_ANSWERS = {
    "colour": """{it:the} is {colour}. | It is {colour}. | The colour of {it:the} is {colour}.
        {it:the} has the colour {colour}. | I see that {it:the} is {colour}.""",
    "shape": """{it:the} is {kind:a}. | It is {kind:a}. | That is {kind:a}. | I see {kind:a} there.
        You are looking at {kind:a}.""",
    "position": """{it:the} is at the {where}. | It is at the {where}. | It is at the {where} of the picture.
        You find it at the {where}. | {it:the} lies at the {where} of the picture. | I see {it:the} at the {where}.""",
    "count_many": """{places}: {amount}. | {places}: that makes {amount}. | {places}: {amount} in all.
        {places}: I count {amount}. | {places}: there are {amount}. | {places}: in all I see {amount}.
        {places}: together {amount}. | I go through them. {places}: that makes {amount}. | They are {places}: {amount}.""",
    "count_one": """{places}: {amount}. | {places}: just {amount}. | {places}: only {amount}.
        {places}: I count {amount}. | {places}: there is {amount}. | {places}: in all I see {amount}.""",
    "count_none": """There are no {thing:many}. | I see no {thing:many}. | There are none.
        I find no {thing:many} in the picture.""",
    "yes_place": """{thing:a} is at the {where}. | there is {thing:a} at the {where}. | I see {thing:a} at the {where}.
        the picture shows {thing:a} at the {where}.""",
    "yes_one": """there is {thing:a}. | I see {thing:a}. | the picture shows {thing:a}. | there is {thing:a} in the picture.
        {thing:a} is here.""",
    "yes_many": """there are {thing:many}: {places}. | I see {thing:many}: {places}.
        the picture shows {thing:many}: {places}. | {thing:many} are here: {places}.""",
    "yes_some": """there are {thing:many}. | I see {thing:many}. | the picture shows {thing:many}.
        there are some {thing:many}.""",
    "no": """there is no {thing}. | I see no {thing}. | there is no {thing} in the picture.
        the picture does not show {thing:a}. | I do not see {thing:a}.""",
    "no_colour": """the only {kind} is {colour}. | there is no {thing}; the {kind} is {colour}.
        I see one {kind}, and it is {colour}. | there is {kind:a}, but it is {colour}.""",
    "no_kind": """the only {colour} shape is {kind:a}. | there is no {thing}; the {colour} shape is {kind:a}.
        the {colour} shape is {kind:a}. | there is one {colour} shape, but it is {kind:a}.""",
    "size": """{it:the} is {size}. | It is {size}. | {it:the} is {size} in size. | Its size is {size}.
        I would call {it:the} {size}.""",
    "largest": """The largest shape is the {item}. | The {item} is the largest. | It is the {item}.
        The {item} is the largest shape here. | The biggest one is the {item}.""",
    "smallest": """The smallest shape is the {item}. | The {item} is the smallest. | It is the {item}.
        The {item} is the smallest shape here. | The smallest one is the {item}.""",
    "relation": """{it:the} is {side} {other:the}. | it is {side} {other:the}. | {it:the} lies {side} {other:the}.
        I see {it:the} {side} {other:the}.""",
    "boxed": """It is {it:a}. | This is {it:a}. | That is {it:a}. | {it:a} is there.
        There is {it:a} in it. | I see {it:a}.""",
    "each": """{list}. | I see {list}. | There is {list}. | Line by line: {list}.""",
    "describe": """There {be} {list} on {paper:a}. | I see {list} on {paper:a}. | The picture shows {list} on {paper:a}.
        On {paper:a} there {be} {list}. | The background is {ground}, and there {be} {list}.""",
    "read": """The text says "{text}". | It says {text}. | The text reads {text}. | I can read "{text}".
        "{text}" is written here.""",
    "read_none": """There is no text. | There is no text in the picture. | I see no text here. | Nothing is written here.
        There are no letters or digits.""",
    "background": """The background is {colour}. | It is {colour}. | The background colour is {colour}.
        I see a background that is {colour}. | The picture has {paper:a}.""",
    "domain": """This is a drawing {of}. | It is a drawing {of}. | You are looking at a drawing {of}.
        It is a simple drawing {of}, not a photo or an X-ray.""",
    "domain_no": """it is a drawing {of}. | this is a drawing {of}. | this is not a medical image but a drawing {of}.
        I only see a drawing {of}. | this is just a drawing {of}, so it tells nothing about a patient.""",
    "domain_yes": "it is a drawing {of}. | this is a drawing {of}. | it is a simple drawing {of}. | I see a drawing {of}.",
    "check_read_yes": 'it says "{text}". | the text says {text}. | I can read {text}. | "{text}" is written here.',
    "check_read_no": "there is no text. | I see no text here. | nothing is written here. | there are no letters or digits.",
    "sure": "I am sure: {core} | I am sure that {core} | I checked again: {core} | that is right: {core}",
}
ANSWERS = {key: phrases(text) for key, text in _ANSWERS.items()}
SIDES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
