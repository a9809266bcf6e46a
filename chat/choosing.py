"""Choosing: which parts of a large image are shown with a question.

Knows colours by their names, places and tiles. Does not know engines, conversations or when an image is large.
A question is about a detail where what it may mean stands in no more places than crops fit beside it: then each of them is
shown, as large as the model sees, while the overview shows the rest. Else tiles that cover the whole image, evenly.
"""

import re
from collections.abc import Sequence
from functools import partial

from PIL import Image

from vision.once import once
from vision.search import Hit, find_colour, find_things, has_colour, zoomed
from vision.tiling import Box, even_tiles

SEEN = 2.5
"""How many times larger than a thing the crop is that the model is asked about."""

Rgb = tuple[int, int, int]

_COLOURS: dict[str, Rgb] = {
    "red|빨간|빨강|붉은": (215, 30, 35), "orange|주황": (246, 135, 20), "yellow|노란|노랑": (250, 218, 35),
    "green|초록|녹색": (35, 155, 60), "blue|파란|파랑|푸른": (35, 85, 215), "purple|violet|보라": (130, 45, 175),
    "pink|분홍": (250, 135, 190), "brown|갈색": (120, 70, 32), "black|검은|검정|까만": (20, 20, 20),
    "white|하얀|흰": (251, 251, 251), "gr[ea]y|회색": (128, 128, 128),
}  # fmt: skip

_FILLED: dict[str, float] = {
    "square|사각형|네모": 0.82, "circle|동그라미|(?<![가-힣])원(?!하)": 0.78, "heart|하트": 0.65, "cross|십자": 0.54,
    "diamond|마름모": 0.5, "triangle|삼각형|세모": 0.5, "ring|고리": 0.54, "star(?!t)|(?<![가-힣])별": 0.41,
}  # fmt: skip
"""How much of its upright box a plain shape fills as it usually stands, turned a little."""


def filled_by(text: str) -> float | None:
    """How much of its box the plain shape fills that a text names; None where it names none."""
    return next((share for pattern, share in _FILLED.items() if re.search(pattern, text.lower())), None)


def find_named(image: Image.Image, text: str) -> list[Hit]:
    """Patches of the colours that a text names; of each colour the purest first, or, where the text names a plain shape too,
    those that fill their boxes as it does.
    """
    filled = filled_by(text)
    found: list[Hit] = []
    for pattern, rgb in _COLOURS.items():
        if re.search(pattern, text.lower()):
            others = [other for other in _COLOURS.values() if other != rgb]
            found += once(image, (rgb, filled), partial(find_colour, image, rgb, others, filled=filled))
    return found


def close_ups(image: Image.Image, question: str, most: int, side: int) -> list[Box]:
    """At most `most` boxes of an image that is larger than the model's input of `side` pixels, in the image's pixels.

    What is grey all over, as a radiograph is, is always covered evenly: there the purest white and the sharpest edges are
    those of markers and lettering.
    """
    places: Sequence[Hit] = ()
    if once(image, "colour", partial(has_colour, image)):
        places = find_named(image, question) or once(image, "things", partial(find_things, image))
    crops: list[Box] = []
    for hit in places:
        if not any(_is_inside(hit.box, crop) for crop in crops):
            crops.append(zoomed(hit.box, SEEN, image.size, side))
        if len(crops) > most:
            break
    return crops if 0 < len(crops) <= most else even_tiles(image.size, most)


def _is_inside(box: Box, other: Box) -> bool:
    return other.left <= box.left and other.top <= box.top and box.right <= other.right and box.bottom <= other.bottom
