"""The command line: questions about one image, asked one after another in one conversation.

Knows files, the assistant and standard output. Does not know pages or how a model is loaded.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from chat.assistant import Answer, Assistant, Request
from chat.conversation import Conversation
from chat.engine.base import Sampling
from vision.study import Study, read_study

SESSION = "terminal"


def read_image(path: Path, max_pixels: int) -> Study:
    """The study in a file. Raises StudyError, or OSError when the file cannot be read."""
    return read_study(path.read_bytes(), max_pixels)


def ask(assistant: Assistant, study: Study, questions: Sequence[str], sampling: Sampling, turns: int, as_json: bool) -> None:
    """Print each answer as it comes: one JSON line per question, or the bare text. Raises RequestError and EngineError."""
    conversation = Conversation(limit=turns)
    for question in questions:
        last: Answer | None = None
        printed = 0
        for step in assistant.ask(Request(question, sampling), study, conversation, SESSION):
            if not isinstance(step, Answer):
                continue
            last = step
            if not as_json:
                print(last.text[printed:], end="", flush=True)
                printed = len(last.text)
        if last is None:
            continue
        print(json.dumps(last.result(assistant.engine.name), ensure_ascii=False) if as_json else "", flush=True)
        conversation = last.conversation
