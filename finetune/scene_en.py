"""English sentences about scenes: the questions, seen and held out, and the answers.

Knows sentences with fields. Does not know scenes or which of them is true.
"""

from finetune.scene_words import phrases

QUESTIONS = {
    "colour": phrases(
        """What colour is {it:the}? | What is the colour of {it:the}? | Which colour does {it:the} have?
        Can you tell me what colour {it:the} is? | {it:the}: what colour is it? | Tell me the colour of {it:the}.
        What color is {it:the}? | I would like to know the colour of {it:the}. | Which colour is {it:the}?
        Colour of {it:the}? | Name the colour of {it:the}. | Please tell me which colour {it:the} is.
        What color does {it:the} have?""",
        """Look at {it:the}. What colour do you see? | In which colour is {it:the} drawn? | {it:the}, colour?
        How would you name the colour that {it:the} has?""",
    ),
    "shape": phrases(
        """What is {it:the}? | What shape is {it:the}? | Which shape is {it:the}? | What kind of shape is {it:the}?
        Tell me what {it:the} is. | Can you tell me which shape {it:the} is? | {it:the}: what is it? | Name {it:the}.
        What do you call {it:the}? | Which kind of shape is {it:the}? | Please say what {it:the} is. | Kind of {it:the}?
        I would like to know what {it:the} is.""",
        """What form does {it:the} have? | Look at {it:the}. What is it called? | Is {it:the} a circle, a star or what?
        {it:the}, which shape?""",
    ),
    "position": phrases(
        """Where is {it:the}? | Where can I find {it:the}? | In which part of the picture is {it:the}?
        Where in the picture is {it:the}? | Tell me where {it:the} is. | What is the position of {it:the}?
        Where do you see {it:the}? | Position of {it:the}? | Can you find {it:the}? Where is it? | Whereabouts is {it:the}?
        Please tell me where to look for {it:the}. | Where is {it:the} located? | {it:the}: where is it?""",
        """Point me to {it:the}. | Which corner or side should I look at for {it:the}? | {it:the}, where?
        I cannot find {it:the}. Where does it lie?""",
    ),
    "count": phrases(
        """How many {thing:many} are there? | How many {thing:many} do you see? | Count the {thing:many}.
        What is the number of {thing:many}? | How many {thing:many} are in the picture? | Number of {thing:many}?
        Can you count the {thing:many}? | How many {thing:many} does the picture have?
        Tell me how many {thing:many} there are. | How many {thing:many} are there in all?
        How many {thing:many} can you find? | How many {thing:many} in total? | Please count all the {thing:many}.""",
        """I want to know the count of {thing:many}. | {thing:many}: how many? | How often do you find {thing:a} here?
        If you count the {thing:many}, what do you get?""",
    ),
    "exists": phrases(
        """Is there {thing:a}? | Is there {thing:a} in the picture? | Do you see {thing:a}? | Can you see {thing:a} here?
        Does the picture have {thing:a}? | Are there any {thing:many}? | Does the picture show {thing:a}?
        Any {thing:many} here? | Do you see any {thing:many}? | Is {thing:a} in the picture? | Can you find {thing:a}?
        Tell me, is there {thing:a}? | Does this picture contain {thing:a}?""",
        """I am looking for {thing:a}. Is there one? | Would I find {thing:a} in this picture? | {thing:a}: is it there?
        Have you seen {thing:a} here?""",
    ),
    "size": phrases(
        """How big is {it:the}? | How large is {it:the}? | What size is {it:the}? | What is the size of {it:the}?
        Is {it:the} small, medium or large? | Tell me the size of {it:the}. | Which size does {it:the} have?
        Size of {it:the}? | Can you tell me how big {it:the} is? | {it:the}: how big is it? | How small is {it:the}?
        Please tell me how large {it:the} is. | Is {it:the} big or small?""",
        """Small, medium or large: which is {it:the}? | Look at {it:the}. How big do you find it? | {it:the}, size?
        How much room does {it:the} take?""",
    ),
    "largest": phrases(
        """Which shape is the largest? | What is the largest shape? | Which one is the biggest?
        What is the biggest thing here? | Name the largest shape. | Which is the largest shape in the picture?
        Tell me the biggest shape. | Largest shape? | Can you tell me which shape is biggest?
        What is the biggest shape you see? | Which shape is larger than all the others?
        Find the largest shape. What is it? | Of all the shapes, which is the largest?""",
        "Which shape takes the most room? | Look for the biggest one. What is it? | Nothing here is bigger than which shape?",
    ),
    "smallest": phrases(
        """Which shape is the smallest? | What is the smallest shape? | Which one is the smallest?
        What is the smallest thing here? | Name the smallest shape. | Which is the smallest shape in the picture?
        Tell me the smallest shape. | Smallest shape? | Can you tell me which shape is smallest?
        What is the smallest shape you see? | Which shape is smaller than all the others?
        Find the smallest shape. What is it? | Of all the shapes, which is the smallest?""",
        """Which shape takes the least room? | Look for the smallest one. What is it?
        Nothing here is smaller than which shape?""",
    ),
    "relation": phrases(
        """Is {it:the} {side} {other:the}? | Is {it:the} located {side} {other:the}? | Does {it:the} lie {side} {other:the}?
        Do you see {it:the} {side} {other:the}? | Would you say that {it:the} is {side} {other:the}?
        {it:the} {side} {other:the}? | Can you tell me if {it:the} is {side} {other:the}?
        Is it true that {it:the} is {side} {other:the}? | {it:the} is {side} {other:the}, right?
        Tell me, is {it:the} {side} {other:the}? | Look at {it:the}. Is it {side} {other:the}?
        Is the place of {it:the} {side} {other:the}? | In the picture, is {it:the} {side} {other:the}?""",
        """Does one find {it:the} {side} {other:the}? | Seen from {other:the}, is {it:the} {side} it?
        I think {it:the} is {side} {other:the}. Is that so?
        Compare {it:the} and {other:the}: is the first {side} the second?""",
    ),
    "describe": phrases(
        """What do you see? | Describe the picture. | What is in the picture? | What does the picture show?
        Describe this image. | Tell me what you see. | What is there? | Please describe what you see.
        Can you describe this picture? | What is shown here? | What can you see in this image?
        Tell me about this picture. | Describe the image in a sentence.""",
        """Put the picture into words. | List everything in the picture. | What would you tell someone who cannot see this?
        Give me a short description.""",
    ),
    "read": phrases(
        """What does the text say? | What is written here? | Read the text. | What text is in the picture?
        What does it say? | Which word or number is written here? | Can you read the text? | Please read what is written.
        What do the letters say? | Tell me what is written. | Text in the picture?
        Is anything written here? What does it say? | Read the word or number.""",
        """Spell out the text for me. | If there is text, read it to me. | Which letters or digits do you see?
        What can be read in this picture?""",
    ),
    "background": phrases(
        """What colour is the background? | What is the background colour? | Which colour is the background?
        Background colour? | Tell me the colour of the background. | What is the colour of the background?
        What color is the background? | What colour is behind the shapes and letters?
        Which colour does the background have? | Name the background colour.
        Can you tell me the colour of the background? | Please tell me what colour the background is.
        What color does the background have?""",
        """On what colour is everything drawn? | Look behind the shapes: which colour is it?
        And the paper, what colour is that? | Which colour fills the rest of the picture?""",
    ),
    "domain": phrases(
        """What kind of picture is this? | What kind of image is this? | What is this picture? | What type of image is it?
        What sort of picture is this? | Tell me what kind of picture this is. | Kind of image? | What am I looking at?
        Which kind of image is shown? | Is this a photo, a drawing or an X-ray? | What type of picture do you see?
        What is this? | Can you tell what kind of image this is?""",
        "A photo, an X-ray or something else? | How would you call this sort of image? | What have I given you here?",
    ),
    "domain_no": phrases(
        """Is this an X-ray? | Is this a chest X-ray? | Is this a radiograph? | Is this a photo? | Do you see lungs here?
        Is this a medical image? | Does this show a chest? | Is there pneumonia in this picture? | Are the lungs clear?
        Does this X-ray show pneumonia? | Is this a photograph of something real? | Is that a picture of a patient?
        Is it an X-ray image? | Can you see a lung opacity?""",
        "Did I give you a chest film? | Could this be an X-ray of a child? | Is it a photo that someone took?",
    ),
    "domain_yes": phrases(
        """Is this a drawing? | Is this a simple drawing? | Is this picture drawn? | Is this a drawing and not a photo?
        Is this image a drawing? | Would you call this a drawing? | Is it a drawing? | Is that just a drawing?
        Is this an artificial picture? | Is this a drawn picture? | Is this a drawing rather than an X-ray?
        Is this something drawn?""",
        "Did a computer draw this? | So this is only a drawing? | Am I looking at a drawing?",
    ),
    "check_colour": phrases(
        """Is {it:the} {colour}? | Is the colour of {it:the} {colour}? | {it:the} is {colour}, right?
        Does {it:the} have the colour {colour}?""",
        "Would you call {it:the} {colour}? | {it:the}: {colour} or not?",
    ),
    "check_shape": phrases(
        """Is {it:the} {kind:a}? | Is that {kind:a}, {it:the}? | {it:the} is {kind:a}, right?
        Is {it:the} shaped like {kind:a}?""",
        "Would you call {it:the} {kind:a}? | {it:the}: {kind:a} or not?",
    ),
    "check_size": phrases(
        """Is {it:the} {size}? | {it:the} is {size}, right? | Is the size of {it:the} {size}?
        Would you say {it:the} is {size}?""",
        "Would you call {it:the} {size}? | {it:the}: {size} or not?",
    ),
    "check_position": phrases(
        """Is {it:the} at the {where}? | {it:the} is at the {where}, right? | Is {it:the} located at the {where}?
        Can I find {it:the} at the {where}?""",
        "Would I look for {it:the} at the {where}? | {it:the}: at the {where} or not?",
    ),
    "check_background": phrases(
        """Is the background {colour}? | Is the background colour {colour}? | The background is {colour}, right?
        Is it {colour} behind everything?""",
        "Would you call the background {colour}? | Background: {colour} or not?",
    ),
    "check_read": phrases(
        "Is there any text? | Is there text in the picture? | Do you see any letters or digits? | Is anything written here?",
        "Would I find text in this picture? | Letters or digits: are there any?",
    ),
    "follow_position": phrases(
        """Where is it? | And where is it? | Where? | Where can I find it? | Where exactly? | And its position?
        Where in the picture is it?""",
        "Whereabouts does it lie? | In which part? | And the place of it?",
    ),
    "follow_size": phrases(
        "How big is it? | And how big is it? | What size is it? | And its size? | Is it large or small? | How large is it?",
        "Small, medium or large? | And how much room does it take?",
    ),
    "follow_colour": phrases(
        """And its colour? | What colour is it? | Which colour is it? | And what colour is it? | What is its colour?
        What color is it?""",
        "In which colour is it drawn? | Colour?",
    ),
    "follow_shape": phrases(
        """And what shape is it? | What shape is it? | And its shape? | Which shape is it? | What kind of shape is that?
        And what is it?""",
        "What is it called? | Which form does it have?",
    ),
    "follow_count": phrases(
        """And how many are there? | How many are there? | How many? | How many of them do you see?
        How many of them are there? | Can you count them?""",
        "And if you count them? | What is their number?",
    ),
    "follow_count_other": phrases(
        """What about {short:many}? | And {short:many}? | And how many {short:many}?
        How many {short:many} are there, then? | What about the {short:many}?""",
        "Then count the {short:many}. | The {short:many} too, please.",
    ),
    "follow_exists": phrases(
        """What about {short:a}? | And {short:a}? | And is there {short:a}? | Is there {short:a}, then?
        Do you see {short:a} instead?""",
        "Then perhaps {short:a}? | Would there be {short:a} too?",
    ),
    "follow_sure": phrases(
        """Are you sure? | Really? | Is that right? | Are you certain? | Is that true? | Sure? | Are you sure about that?
        Can you check again?""",
        "Look again, please. Is it so? | Do you stand by that?",
    ),
    "follow_doubt": phrases(
        """Isn't it {word}? | Is it not {word}? | I think it is {word}. | Are you sure it is not {word}? | Not {word}?
        It seems to be {word}.""",
        "Could it be {word}? | I would have said {word}.",
    ),
}

_ANSWERS = {
    "colour": """{it:the} is {colour}. | It is {colour}. | The colour of {it:the} is {colour}.
        {it:the} has the colour {colour}. | I see that {it:the} is {colour}.""",
    "shape": """{it:the} is {kind:a}. | It is {kind:a}. | That is {kind:a}. | I see {kind:a} there.
        You are looking at {kind:a}.""",
    "position": """{it:the} is at the {where}. | It is at the {where}. | It is at the {where} of the picture.
        You find it at the {where}. | {it:the} lies at the {where} of the picture. | I see {it:the} at the {where}.""",
    "count_many": """There are {amount}. | I see {amount}. | I count {amount}. | The picture shows {amount}.
        There are {amount} in the picture.""",
    "count_one": """There is {amount}. | I see {amount}. | There is just {amount}. | I count only {amount}.
        The picture shows {amount}.""",
    "count_none": """There are no {thing:many}. | I see no {thing:many}. | There are none.
        I find no {thing:many} in the picture.""",
    "yes_place": """{thing:a} is at the {where}. | there is {thing:a} at the {where}. | I see {thing:a} at the {where}.
        the picture shows {thing:a} at the {where}.""",
    "yes_one": """there is {thing:a}. | I see {thing:a}. | the picture shows {thing:a}. | there is {thing:a} in the picture.
        {thing:a} is here.""",
    "yes_many": "there are {amount}. | I see {amount}. | the picture shows {amount}. | there are {amount} here.",
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
