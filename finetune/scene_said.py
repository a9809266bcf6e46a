"""What was said of a scene: an exchange with what a follow-up may stand on, and phrases put into a list.

Knows words. Does not know scenes, pixels or models.
"""

from dataclasses import dataclass, field

from finetune.exchange import Exchange, Parts
from finetune.scene_words import KoreanNoun, Ref


@dataclass(frozen=True)
class Said:
    """An exchange with what a follow-up may stand on.

    `index` and `ref`: the item talked about and how; `group`: the things counted or looked for; `told`: the attributes
    of either that have been said; `doubt`: an attribute of the item (or "background") that was just answered.
    """

    exchange: Exchange
    index: int | None = None
    ref: Ref = field(default_factory=Ref)
    group: Ref | None = None
    told: frozenset[str] = frozenset()
    doubt: str | None = None


def listed(parts: Parts) -> str:
    """Their words with commas between; as a Korean noun, so that a sentence of either language can hold it."""
    return KoreanNoun(", ".join(words for words, _ in parts))
