"""The gallery: example images from our own generators, each with questions to start with.

Knows the files beside it and their captions. Does not know components or sessions.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from chat.ui.pictures import THUMBNAIL_SIDE, data_url
from chat.wording import Language

FOLDER = Path(__file__).with_name("examples")


@dataclass(frozen=True, eq=False)
class Example:
    """One picture of the gallery."""

    file: str
    title: dict[Language, str]
    questions: dict[Language, tuple[str, ...]]

    @property
    def data(self) -> bytes:
        return (FOLDER / self.file).read_bytes()


EXAMPLES = (
    Example(
        "chest.webp",
        {"ko": "모의 흉부 X선, 음영 있음", "en": "Simulated chest X‑ray, opacity"},
        {
            "ko": ("폐에 음영이 있나요?", "어느 쪽에 있나요?", "반대쪽은 어떤가요?"),
            "en": ("Is there an opacity in the lungs?", "On which side is it?", "And the other side?"),
        },
    ),
    Example(
        "chest-clear.webp",
        {"ko": "모의 흉부 X선, 음영 없음", "en": "Simulated chest X‑ray, clear"},
        {
            "ko": ("폐에 음영이 있나요?", "어떤 종류의 이미지인가요?"),
            "en": ("Is there an opacity in the lungs?", "What kind of image is this?"),
        },
    ),
    Example(
        "shapes.webp",
        {"ko": "여러 도형", "en": "A few shapes"},
        {
            "ko": ("무엇이 보이나요?", "빨간 하트는 어디에 있나요?", "도형은 모두 몇 개인가요?"),
            "en": ("What do you see?", "Where is the red heart?", "How many shapes are there?"),
        },
    ),
    Example(
        "word.webp",
        {"ko": "글자와 도형", "en": "A word and shapes"},
        {
            "ko": ("뭐라고 쓰여 있나요?", "주황색 도형은 몇 개인가요?"),
            "en": ("What does it say?", "How many orange shapes are there?"),
        },
    ),
    Example(
        "crowd.png",
        {"ko": "큰 그림 속 작은 도형들", "en": "Many small shapes"},
        {
            "ko": ("빨간 하트가 있나요?", "가운데에는 무엇이 있나요?"),
            "en": ("Is there a red heart?", "What is in the middle?"),
        },
    ),
)

QUESTIONS: dict[Language, tuple[str, ...]] = {
    "ko": ("무엇이 보이나요?", "어떤 종류의 이미지인가요?", "눈에 띄는 것은 어디에 있나요?"),
    "en": ("What do you see?", "What kind of image is this?", "Where is what stands out?"),
}
"""What to ask about an image that nobody knows yet."""


@cache
def thumbnail(example: Example) -> str:
    """The example as a small data URL."""
    with Image.open(io.BytesIO(example.data)) as image:
        return data_url(image.convert("RGB"), THUMBNAIL_SIDE)


def suggestions(example: Example | None, language: Language) -> Sequence[str]:
    """Questions to start with."""
    return (example.questions if example else QUESTIONS)[language]
