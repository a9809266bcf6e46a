"""The wire: messages as an OpenAI-compatible server reads them, its pieces as it sends them, and an estimate of tokens.

Knows the chat format, data URLs and letters. Does not know addresses, keys or how anything is sent.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from chat.engine.base import EngineRefused, Message

LONGEST_SIDE = 2048
"""Larger pictures are averaged down before they travel; vision towers read 336 to some 1,500 pixels a side."""

LARGEST_PNG = 1 << 20
"""Pixels up to which a picture travels as it is; from here on as a JPEG, which is a tenth of the bytes."""

FRAME_TOKENS = 12
"""Roles, separators and special tokens around one message; `vicuna_v1` takes up to eleven."""

_WORDS = re.compile(r"[A-Za-z]+")
_LONE_SPACE = re.compile(r" (?![A-Za-z])")
_CONTROL = re.compile(r"<(?=/?(?:s|unk|pad|image)>|\|)")


def to_wire(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The `messages` of a chat completion: a string where there are no images, else text and images in their order.

    Neighbouring texts become one part, because servers differ in what they put between two. A control token that
    somebody typed is broken up (`<image>` becomes `< image>`): the server's template would take it for its own.
    """
    return [{"role": message.role, "content": _content(message)} for message in messages]


def _content(message: Message) -> str | list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, Image.Image):
            parts.append({"type": "image_url", "image_url": {"url": data_url(part)}})
        elif parts and parts[-1]["type"] == "text":
            parts[-1]["text"] += part
        elif part:
            parts.append({"type": "text", "text": part})
    for item in parts:
        if item["type"] == "text":
            item["text"] = _CONTROL.sub("< ", item["text"])
    if message.images:
        return parts
    return str(parts[0]["text"]) if parts else ""


def data_url(image: Image.Image) -> str:
    """The picture inside a URL: lossless up to a million pixels, never more than `LONGEST_SIDE` on a side."""
    if (side := max(image.size)) > LONGEST_SIDE:
        size = tuple(max(1, round(length * LONGEST_SIDE / side)) for length in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS, reducing_gap=2.0)
    data = io.BytesIO()
    if image.width * image.height <= LARGEST_PNG:
        kind = "png"
        image.convert("RGB").save(data, "PNG", compress_level=1)
    else:
        kind = "jpeg"
        image.convert("RGB").save(data, "JPEG", quality=95, subsampling=0)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def estimate(messages: Sequence[Message], tokens_per_image: int) -> int:
    """Tokens that these messages take, on the safe side, for the tokenizer is the server's.

    A third of a token per Latin letter, one per digit, sign and line, one per UTF-8 byte of every other script: no
    tokenizer with byte fallback takes more bytes than that, English prose takes about two thirds of it. Only strings
    of letters that are no words can take more.
    """
    total = 0
    for message in messages:
        text = "".join(part for part in message.parts if isinstance(part, str))
        letters = [len(word) for word in _WORDS.findall(text)]
        spaces = text.count(" ") - len(_LONE_SPACE.findall(text))
        others = len(text.encode("utf-8", "replace")) - sum(letters) - spaces
        total += FRAME_TOKENS + len(message.images) * tokens_per_image + others + sum(-(-length // 3) for length in letters)
    return total


@dataclass(frozen=True)
class Piece:
    text: str
    finish: Literal["stop", "length"] | None
    tokens: int


def read_chunk(chunk: object) -> Piece:
    """What one chunk says. The client checks no types, so a server may have put anything anywhere: ValueError."""
    choices = getattr(chunk, "choices", chunk)
    if not isinstance(choices, list | None):
        raise ValueError("not a chunk")
    choice = choices[0] if choices else None
    text = getattr(getattr(choice, "delta", None), "content", None) or ""
    reason = getattr(choice, "finish_reason", None)
    used = getattr(getattr(chunk, "usage", None), "completion_tokens", None)
    if not isinstance(text, str) or not isinstance(reason, str | None):
        raise ValueError("not a chunk")
    if reason == "content_filter":
        raise EngineRefused("The server's filter stopped this answer. Ask in other words.", "filtered")
    whole = text.encode("utf-8", "replace").decode()  # half a surrogate could be written nowhere
    return Piece(
        whole,
        None if reason in (None, "abort", "error") else "length" if reason == "length" else "stop",
        used if isinstance(used, int) else 0,
    )


def context_of(model: dict[str, object]) -> int | None:
    """The context in tokens, as vLLM, OpenRouter and Groq call it; nonsense is as good as nothing."""
    said = [model.get(name) for name in ("max_model_len", "context_length", "context_window")]
    return next((tokens for tokens in said if isinstance(tokens, int) and 256 <= tokens <= 1 << 24), None)
