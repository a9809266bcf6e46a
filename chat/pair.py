"""A pair of assistants: one answers with an adapter, the other as the base does without it.

Knows assistants and that they share a line. Does not know engines' insides or pages.
"""

from typing import TYPE_CHECKING

from chat.assistant import Assistant
from chat.engine.base import Engine

if TYPE_CHECKING:
    from vision.examiner import Examiner


class Paired(Assistant):
    """Answers with the adapter; `base` answers without it, behind the same line. Who `leads` answers where nobody chose."""

    def __init__(
        self, engine: Engine, base: Engine, input_side: int, writer: Engine | None = None, examiner: "Examiner | None" = None,
        leads: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(engine, input_side, writer, examiner)
        self.leads = leads
        self.base = Assistant(base, input_side, writer, examiner)
        self.base.line = self.line


def speaker(assistant: Assistant, is_adapted: bool) -> Assistant:
    """The one of a pair that is to answer; an assistant without an adapter is the only one there is."""
    return assistant.base if isinstance(assistant, Paired) and not is_adapted else assistant


def leads(assistant: Assistant) -> bool:
    """Whether, of a pair, the one with the adapter answers where nobody has chosen."""
    return not isinstance(assistant, Paired) or assistant.leads


def leader(assistant: Assistant) -> Assistant:
    """Who answers where nobody has chosen, and who writes reports and searches."""
    return speaker(assistant, leads(assistant))
