"""Conversations: the turns that are remembered, and no more than that.

Knows text, token ids and boxes. Does not know images, engines or pages. Nothing here is ever written anywhere.
"""

from dataclasses import dataclass, replace

DEFAULT_TURNS = 5
MOST_TURNS = 20


@dataclass(frozen=True)
class Turn:
    """One question and its answer; `ids` are the token ids of the answer as the engine produced them, without the end token.

    Where a writer writes the answer, `observations` are what the engine itself said, and `ids` are theirs.
    """

    question: str
    answer: str
    ids: tuple[int, ...] = ()
    observations: str = ""


@dataclass(frozen=True)
class Conversation:
    """The last `limit` turns about one image; `asked` counts every turn since the image came."""

    turns: tuple[Turn, ...] = ()
    limit: int = DEFAULT_TURNS
    asked: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MOST_TURNS:
            raise ValueError(f"A conversation remembers 1 to {MOST_TURNS} turns, not {self.limit}.")

    def with_turn(self, turn: Turn) -> "Conversation":
        """This conversation with `turn` at its end; the oldest turn leaves when the window is full."""
        return replace(self, turns=(*self.turns, turn)[-self.limit :], asked=self.asked + 1)

    def without_last(self) -> "Conversation":
        """This conversation before its last turn (undo, and the first half of regenerate and edit).

        A turn that the window pushed out does not come back. Raises ValueError when there is no turn.
        """
        if not self.turns:
            raise ValueError("There is no turn to take back.")
        return replace(self, turns=self.turns[:-1], asked=self.asked - 1)

    def cleared(self) -> "Conversation":
        """An empty conversation with the same window."""
        return Conversation(limit=self.limit)
