"""Keeping: what Hilum holds for one session just now, and what happens when a person wants it forgotten.

Knows desks, the vault and Gradio's events. Does not know the page, or how anything is worded.
"""

import logging
from collections.abc import Iterator, Mapping
from copy import deepcopy

import gradio as gr
from PIL import Image

from chat.assistant import Assistant
from chat.ui import kept_panel
from chat.ui.desk import Desk
from chat.ui.handlers import Handlers
from chat.ui.kept_panel import Audit, Value
from chat.ui.owners import NOBODY, owner_in
from chat.ui.upload import folder, forget, held
from chat.ui.vault import IN_MEMORY, file_system, written_elsewhere

OURS = ("chat", "vision")

log = logging.getLogger(__name__)


def audit(desk: Desk, owner: str) -> Audit:
    """What hangs on the desk, on an empty one not counted, and what lies in its owner's folder.

    Found by walking over all of the desk, so that what is added to desks one day is found too.
    """
    with desk.lock:
        leaves = list(_leaves(desk, set()))
        turns, report = len(desk.exchanges), desk.report.report
    empty = list(_leaves(deepcopy(desk), set()))
    pictures, texts = (sum(map(count, leaves)) - sum(map(count, empty)) for count in (_picture_bytes, _text_bytes))
    files, file_bytes = held(owner)
    elsewhere = written_elsewhere()
    for path in sorted(elsewhere):
        log.warning("opened for writing outside the vault since the start: %s", path)
    sections, is_in_memory = len(report.sections) if report else 0, file_system(folder()) in IN_MEMORY
    return Audit(pictures, texts, turns, sections, files, file_bytes, len(elsewhere), is_in_memory)


def _leaves(value: object, seen: set[int]) -> Iterator[object]:
    """Every value that hangs on `value`, once, and none of its containers."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        inside: object = [*value.keys(), *value.values()]
    elif type(value).__module__.partition(".")[0] in OURS:
        inside = list(vars(value).values()) if hasattr(value, "__dict__") else []
    else:
        inside = value
    if isinstance(inside, list | tuple | set | frozenset):
        for part in list(inside):
            yield from _leaves(part, seen)
    else:
        yield inside


def _picture_bytes(leaf: object) -> int:
    if isinstance(leaf, Image.Image):
        return leaf.width * leaf.height * len(leaf.getbands())
    if isinstance(leaf, bytes) or (isinstance(leaf, str) and _is_data_url(leaf)):
        return len(leaf)
    return int(getattr(leaf, "nbytes", 0))  # numpy's and torch's arrays


def _text_bytes(leaf: object) -> int:
    return len(leaf.encode("utf-8", "replace")) if isinstance(leaf, str) and not _is_data_url(leaf) else 0


def _is_data_url(leaf: str) -> bool:
    return leaf.startswith("data:")


class Keeping:
    """The panel's events, of all sessions."""

    def __init__(self, assistant: Assistant, handlers: Handlers) -> None:
        self.assistant = assistant
        self.handlers = handlers

    def check(self, desk: Desk, request: gr.Request) -> Value:
        """The panel was opened, or is to look again."""
        return kept_panel.kept(desk, audit(desk, owner_in(request)))

    def forget(self, desk: Desk, request: gr.Request) -> tuple[Desk, Value]:
        """Stop what is under way, and free images, conversation, report, what the engine has computed, and files.

        What comes back is another desk in the same language, and what is kept for it. Nothing leads to the old one any more.
        """
        session, fresh = desk.session, deepcopy(desk)
        fresh.is_open = desk.is_open
        self.handlers.leave(request)
        desk.place(None)
        for name in (session, *(f"{session} {part}" for part in ("aside", "report", "page"))):
            self.assistant.engine.forget(name)
        if (owner := owner_in(request)) != NOBODY:  # what nobody in particular has sent may be somebody else's
            forget(owner)
        self.handlers.meet(fresh, request)
        return fresh, kept_panel.kept(fresh, audit(fresh, owner), is_forgotten=True)
