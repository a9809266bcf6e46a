"""The command line: questions about one image, asked one after another in one conversation.

Knows files, the assistant and standard output. Does not know pages or how a model is loaded.
"""

import json
import sys
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
    """Print each answer as it comes: one JSON line per question, or the bare text. Raises RequestError and EngineError.

    What a writer was told is in the JSON only; why it did not answer is said on stderr.
    """
    conversation = Conversation(limit=turns)
    for question in questions:
        last: Answer | None = None
        printed = 0
        for step in assistant.ask(Request(question, sampling), study, conversation, SESSION):
            if not isinstance(step, Answer):
                continue
            last = step
            if not as_json and last.is_written:
                print(last.text[printed:], end="", flush=True)
                printed = len(last.text)
        if last is None:
            continue
        result = last.result(assistant.engine.name)
        print(json.dumps(result, ensure_ascii=False) if as_json else last.text[printed:], flush=True)
        if last.trouble:
            print(f"hilum: this is what the first model saw; the writer failed. {result['writer_error']}", file=sys.stderr)
        conversation = last.conversation
