"""The panel about what is kept: an audit as rows of facts, what they come to, and a way to have it all forgotten.

Knows desks and words. Does not know components or events; what is text is set as text there.
"""

import time
from dataclasses import dataclass
from typing import Any

from chat.ui.desk import Desk
from chat.ui.kept_words import say

Value = dict[str, Any]


@dataclass(frozen=True)
class Audit:
    """Bytes of pictures and text in memory, turns, a report's sections, an owner's files and their bytes; and how many files
    this process has opened for writing outside the vault.
    """

    pictures: int
    texts: int
    turns: int
    sections: int
    files: int
    file_bytes: int
    elsewhere: int
    is_in_memory: bool


def kept(desk: Desk, found: Audit | None = None, is_forgotten: bool = False) -> Value:
    """The panel; without an audit it is closed, and asks for one when it is opened."""
    language = desk.language
    names = ("keeping", "check", "forget", "until")
    value: Value = {"said": {name: say(name, language) for name in names}, "drawn": time.time_ns() // 1000}
    if found is None:
        return value | {"rows": [], "verdict": "", "is_clean": True, "done": ""}

    def told(count: int, text: str) -> str:
        return text if count else say("nothing", language)

    rows = [
        ("pictures", told(found.pictures, _size(found.pictures))),
        ("texts", told(found.texts, _size(found.texts))),
        ("turns", told(found.turns, f"{found.turns:,}")),
        ("report", told(found.sections, say("sections", language, count=found.sections))),
        ("files", told(found.files, f"{found.files:,} · {_size(found.file_bytes)}")),
        ("elsewhere", told(found.elsewhere, f"{found.elsewhere:,}")),
    ]
    verdict = "is_not_clean" if found.elsewhere else "is_clean" if found.is_in_memory else "is_on_disk"
    return value | {
        "rows": [[say(name, language), text] for name, text in rows],
        "verdict": say(verdict, language, count=found.elsewhere),
        "is_clean": verdict == "is_clean",
        "done": say("forgotten", language) if is_forgotten else "",
    }


def _size(count: int) -> str:
    if count < 1 << 10:
        return f"{count:,} B"
    return f"{count / (1 << 10):,.1f} KB" if count < 1 << 20 else f"{count / (1 << 20):,.1f} MB"
