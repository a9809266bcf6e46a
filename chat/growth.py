"""Growth: what an engine has said so far, and how fast.

Knows an engine's stream and a clock. Does not know studies, conversations or what becomes of the text.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from chat.engine.base import Engine, Sampling
from chat.prompt import Prompt


@dataclass(frozen=True)
class Growth:
    """`seconds` went by before the first token, `speed` is in tokens per second."""

    text: str
    ids: tuple[int, ...]
    finish: str | None
    seconds: float
    tokens: int
    speed: float


def grow(engine: Engine, prompt: Prompt, sampling: Sampling, session: str, started: float) -> Iterator[Growth]:
    """The answer piece by piece; `started` is when the person asked, by `time.perf_counter`."""
    text, first, tokens = "", 0.0, 0
    ids: tuple[int, ...] = ()
    for delta in engine.stream(prompt.messages, sampling, session):
        now = time.perf_counter()
        if delta.count:
            first = first or now - started
        text, ids, tokens = text + delta.text, ids + delta.ids, tokens + delta.count
        decoding = now - started - first if first else 0.0
        speed = (tokens - 1) / decoding if decoding > 0 and tokens > 1 else 0.0
        yield Growth(text.strip(), ids, delta.finish, first, tokens, speed)
