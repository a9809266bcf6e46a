"""A pair of assistants: one answers with an adapter, the other as the base does without it.

Knows assistants and that they share a line. Does not know engines' insides or pages.
"""

from typing import TYPE_CHECKING

from chat.assistant import Assistant
from chat.engine.base import Engine

if TYPE_CHECKING:
    from vision.examiner import Examiner


class Paired(Assistant):
    """Answers with the adapter; `base` answers without it, behind the same line."""

    def __init__(
        self, engine: Engine, base: Engine, input_side: int, writer: Engine | None = None, examiner: "Examiner | None" = None
    ) -> None:
        super().__init__(engine, input_side, writer, examiner)
        self.base = Assistant(base, input_side, writer, examiner)
        self.base.line = self.line


def speaker(assistant: Assistant, is_adapted: bool) -> Assistant:
    """The one of a pair that is to answer; an assistant without an adapter is the only one there is."""
    return assistant.base if isinstance(assistant, Paired) and not is_adapted else assistant
