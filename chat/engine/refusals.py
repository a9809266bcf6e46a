"""What a server means when it says no: HTTP status and words as one of our errors, in words a person can act on.

Knows what vLLM, llama.cpp, Ollama, transformers serve and hosted ones write. Does not know how it was fetched.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from chat.engine.base import DoesNotFit, EngineError, EngineRefused, EngineUnavailable

_TOO_LONG = re.compile(
    r"context (?:length|size|window)|context_length|exceed_context|too many (?:input )?tokens|prompt is too long|max_model_len"
)
_LIMIT = re.compile(
    r"(?:maximum context length is|context size[^\d]{0,20}|context length of|n_ctx\D{1,4}|max_model_len\D{1,12})\s*(\d+)"
)
_MOST_IMAGES = re.compile(r"at most (\d+) image")
_ABOUT_IMAGES = re.compile(r"image|vision|multi-?modal|mmproj")
_CANNOT = re.compile(r"\bnot?\b|n't|\bonly\b|unsupported|unknown|missing|cannot")
_NO_MODEL = re.compile(
    r"pinned to|model\b.{0,200}?(?:does not exist|not found|not available|unknown)|(?:unknown|invalid) model"
)


@dataclass(frozen=True)
class Reply:
    """A server's no. `said` are its own words, shortened and without the key; `models` what it lists, where it does."""

    host: str
    model: str
    status: int
    said: str
    has_images: bool = False
    models: tuple[str, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def explain(reply: Reply) -> EngineError:
    """The error for a reply that is no answer."""
    status, host = reply.status, reply.host
    if status in (401, 403):
        return EngineRefused(
            f"{host} does not accept the key ({status}). Set HILUM_API_KEY to one that it knows, in .env or the environment.",
            "key", host=host,
        )  # fmt: skip
    if 300 <= status < 400:
        return EngineRefused(
            f"{host} sends on to another address ({status}), which Hilum does not follow. Give the final address as --model.",
            "refused", host=host, status=str(status),
        )  # fmt: skip
    if status == 429:
        return _busy(reply)
    for reading in (_too_long, _about_images, _no_model):
        if error := reading(reply):
            return error
    said = f"{status}: {_said(reply)}"
    if status >= 500 or status == 408:
        return EngineUnavailable(f"{host} failed ({said}). Look at its log.", "failed", host=host, status=said)
    return EngineRefused(f"{host} refused this ({said}).", "refused", host=host, status=said)


def _said(reply: Reply) -> str:
    return reply.said.rstrip(".") or "without a reason"


def _busy(reply: Reply) -> EngineError:
    wait = reply.headers.get("retry-after", "").strip()
    when = f"in {wait} seconds" if re.fullmatch(r"\d{1,6}", wait) else "later"
    reason = "busy" if when == "later" else "busy_for"
    return EngineUnavailable(
        f"{reply.host} has too much to do, or the key's quota is used up (429). Ask again {when}.",
        reason, host=reply.host, seconds=int(wait) if reason == "busy_for" else 0,
    )  # fmt: skip


def _too_long(reply: Reply) -> EngineError | None:
    said = reply.said.lower()
    if not _TOO_LONG.search(said):
        return None
    said = re.sub(r"(?<=\d),(?=\d{3})", "", said)
    limit = _LIMIT.search(said)
    available = int(limit[1]) if limit else 0
    needed = max(map(int, re.findall(r"\d{1,9}", said))) if re.search(r"\d", said) else 0
    if 0 < available < needed:
        return DoesNotFit(needed, available)
    return EngineRefused(
        f"{reply.host} says that this is too long for {reply.model}. Shorten the question or lower the answer's length.",
        "too_long", name=reply.model,
    )  # fmt: skip


def _about_images(reply: Reply) -> EngineError | None:
    said = reply.said.lower().replace(reply.model.lower(), "")
    if not reply.has_images or not _ABOUT_IMAGES.search(said):
        return None
    if most := _MOST_IMAGES.search(said):
        return EngineRefused(
            f"{reply.host} takes {most[1]} pictures per question. Start Hilum with --remote-images {most[1]}.",
            "fewer_images", host=reply.host, most=int(most[1]),
        )  # fmt: skip
    if not _CANNOT.search(said):
        return None
    return EngineRefused(
        f"{reply.model} does not read pictures ({_said(reply)}). Name a model that does with --remote-name.",
        "no_vision", name=reply.model,
    )  # fmt: skip


def _no_model(reply: Reply) -> EngineError | None:
    if reply.status != 404 and not _NO_MODEL.search(reply.said.lower()):
        return None
    known = ", ".join(reply.models[:20]) if reply.models and reply.model not in reply.models else ""
    has = (
        f"It has: {known}. Choose one with --remote-name."
        if known
        else "Check --remote-name, and --model: it mostly ends in /v1."
    )
    return EngineRefused(
        f"{reply.host} knows no model {reply.model} at this address ({_said(reply)}). {has}",
        "unknown_model", host=reply.host, name=reply.model, known=known or "?",
    )  # fmt: skip


def quote(said: object, key: str) -> str:
    """A server's words on one line, without markup and without the key."""
    if isinstance(said, dict):
        numbers = "".join(f" {name}: {said[name]}." for name in ("n_ctx", "n_prompt_tokens") if name in said)
        said = f"{said.get('message') or said.get('detail') or said.get('error') or ''}{numbers}"
    if not isinstance(said, str) or said.lstrip().startswith("<"):
        return ""
    said = said.replace(key, "***") if key else said
    printable = "".join(letter if letter.isprintable() and letter not in "<>" else " " for letter in said)
    return " ".join(printable.split())[:400]


def unreachable(host: str, error: Exception) -> EngineError:
    """A connection that never came to be, told by the kinds of its causes."""
    kinds: set[str] = set()
    cause: BaseException | None = error
    while cause:
        kinds.add(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    if "gaierror" in kinds:
        why = "No computer of this name is known. Check the address in --model."
    elif kinds & {"SSLError", "SSLCertVerificationError"}:
        why = "Its certificate is not valid, or it does not speak https. Check the address in --model."
    elif kinds & {"ConnectError", "ConnectTimeout"}:
        why = "Nothing answers there. Start the server, or check the address in --model."
    else:
        return not_openai(host)
    return EngineUnavailable(f"{host} cannot be reached. {why}", "unreachable", host=host)


def not_openai(host: str) -> EngineError:
    """Something answers, in another protocol."""
    said = f"{host} does not answer as an OpenAI-compatible server. Check the address; its path is mostly /v1."
    return EngineUnavailable(said, "not_openai", host=host)


def broke_off(host: str, said: str = "without a reason") -> EngineError:
    """An answer that begins and does not end; what came of it has been given out."""
    return EngineUnavailable(f"The answer broke off: {host} ended it half-way ({said}). Ask again.", "broke_off", host=host)
