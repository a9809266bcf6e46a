"""An examination: an engine is asked questions whose truth is known, and every reply is kept.

Answers are greedy and come through the engine that the page uses.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from chat.conversation import Turn
from chat.engine.base import Message, Sampling
from chat.engine.local import LocalEngine
from chat.prompt import View, layout
from chat.wording import Language
from finetune.exchange import Exchange
from vision.tiling import Box

GREEDY = Sampling(max_new_tokens=96, temperature=0)
Claim = Callable[[str, str, Language], str | None]


@dataclass(frozen=True)
class Reply:
    """One answered question, and whether its claim was right."""

    exchange: Exchange
    language: Language
    answer: str
    claim: str | None
    right: bool


class Examination:
    """Asks an engine questions about images and keeps every reply."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.replies: list[Reply] = []

    def read(self, messages: Sequence[Message]) -> str:
        return "".join(delta.text for delta in self.engine.stream(messages, GREEDY, "bench")).strip()

    def answer(self, image: Image.Image, question: str, language: Language, before: Sequence[Turn] = ()) -> str:
        view = View("overview", Box(0, 0, *image.size), image)
        return self.read(layout(question, before, [view], (), (), language))

    def ask(
        self, image: Image.Image, exchange: Exchange, language: Language, claim_of: Claim, before: Sequence[Turn] = ()
    ) -> Reply:
        """The reply to an exchange's question, behind the turns `before` it."""
        said = self.answer(image, exchange.question, language, before)
        claim = claim_of(said, exchange.kind, language)
        reply = Reply(exchange, language, said, claim, claim == exchange.claim)
        self.replies.append(reply)
        return reply


def share(values: Iterable[bool]) -> float:
    kept = list(values)
    return round(sum(kept) / len(kept), 4) if kept else float("nan")
