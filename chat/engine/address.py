"""Addresses: where a remote model is, as a person writes it.

Knows the parts of a URL. Does not know HTTP or what answers there.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from chat.engine.base import EngineRefused
from chat.settings import is_loopback


@dataclass(frozen=True)
class Address:
    """Where a model is served. `host` is for people: host and port, without a path."""

    url: str
    host: str
    is_local: bool
    is_encrypted: bool


def read_address(text: str) -> Address:
    """The address in `text`, with the customary `/v1` where it has no path. Raises EngineRefused, never repeating it."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.username is not None or parts.password is not None:
        raise EngineRefused("The model's address holds a name or a password. Take it out; a key goes into HILUM_API_KEY.")
    is_plain = re.fullmatch(r"[^\s\\%]+", host) and not re.search(r"[\s\\]", text.strip())
    if not is_plain or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise EngineRefused("The model's address cannot be used. Write it like http://127.0.0.1:8000/v1.")
    shown = f"[{host}]" if ":" in host else host
    shown += f":{port}" if port else ""
    path = parts.path.rstrip("/") or "/v1"
    return Address(f"{parts.scheme}://{shown}{path}", shown, is_loopback(host), parts.scheme == "https")
