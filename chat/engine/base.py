"""The seam between Hilum and whatever turns messages into text.

Knows messages, limits and errors. Does not know prompts' wording, pages or any one model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Part = str | Image.Image


@dataclass(frozen=True)
class Message:
    """What one side said. `ids` are an answer's token ids, kept because decode -> encode is not exact."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]
    ids: tuple[int, ...] = ()

    @property
    def images(self) -> tuple[Image.Image, ...]:
        return tuple(part for part in self.parts if isinstance(part, Image.Image))


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens; temperature 0 is greedy."""

    max_new_tokens: int = 512
    temperature: float = 0.1
    top_p: float = 0.8
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1.")
        if not 0 <= self.temperature <= 2:
            raise ValueError("temperature must lie between 0 and 2.")
        if not 0 < self.top_p <= 1:
            raise ValueError("top_p must lie above 0 and at most at 1.")


@dataclass(frozen=True)
class Limits:
    """What fits into one prompt of this engine.

    `max_images` is what its checkpoint was trained to read in one prompt: 1 for LLaVA-1.5.
    """

    context_tokens: int
    tokens_per_image: int
    max_images: int


@dataclass(frozen=True)
class Delta:
    """A piece of an answer: whole characters, the token ids it came from, and why it ended, if it did.

    `tokens` is said where there are no ids: a remote engine counts pieces, and its last Delta makes up the server's count.
    """

    text: str
    ids: tuple[int, ...] = ()
    finish: Literal["stop", "length"] | None = None
    tokens: int | None = None

    @property
    def count(self) -> int:
        """How many tokens this is."""
        return len(self.ids) if self.tokens is None else self.tokens


class Engine(Protocol):
    """One model that many callers use in turn. `session` names a caller; state of one never serves another.

    "a/crops" is a part of session "a", with a state of its own, and is forgotten with it.
    """

    @property
    def name(self) -> str: ...

    @property
    def limits(self) -> Limits: ...

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that ends with these messages, images included."""

    def prepare(self, messages: Sequence[Message], session: str) -> None:
        """Compute what can be computed before the question exists, and give way to whoever asks one."""

    def stream(self, messages: Sequence[Message], sampling: Sampling, session: str) -> Iterator[Delta]:
        """The answer, piece by piece; closing the iterator stops the work within a token. Raises EngineError."""

    def forget(self, session: str) -> None:
        """Drop everything that is kept for this session."""

    def close(self) -> None:
        """Free the model."""


class Scorer(Protocol):
    """A local engine's second face; search and closed questions stand on it."""

    def choose(self, batch: Sequence[Sequence[Message]], options: Sequence[str]) -> NDArray[np.float32]:
        """(n, k) probabilities of the options as the answer's beginning, one forward pass per prompt and option length."""

    def features(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """(n, patches, d) vision-tower features."""


class EngineError(Exception):
    """The engine could not answer; the subclass says who can mend it.

    `reason` and `fields`, where they are given, choose a more exact sentence in the person's language.
    """

    def __init__(self, message: str, reason: str = "", **fields: int | str) -> None:
        super().__init__(message)
        self.reason = reason
        self.fields = fields


class EngineUnavailable(EngineError):
    """The engine is not there: a missing or broken checkpoint, an address that does not answer."""


class EngineRefused(EngineError):
    """The engine is there and says no: a wrong key, an unknown model, a request it does not take."""


class OutOfMemory(EngineError):
    """The device has too little memory for this request; a smaller one may pass."""


class DoesNotFit(EngineError):
    """The prompt is longer than the engine's context, even without history and crops."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(
            f"The prompt needs {needed:,} tokens and {available:,} fit. Shorten the question or lower the answer's length."
        )
        self.needed = needed
        self.available = available
