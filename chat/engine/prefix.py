"""Prefixes: what each session has computed already, so that nothing is computed twice.

Knows segments of a prompt, their keys and values, image features, and bytes. Does not know messages, devices or when to
compute. A state depends on the segments alone: it was made by one forward pass for each, whoever asked and in whatever
order, so that going on from it is the same as beginning anew, bit for bit.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock
from typing import Any

import torch
from PIL import Image
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from vision.once import once

LEAST_BUCKET = 1024
"""Tokens that a cache has room for at first; it doubles when they are used up."""

IMAGES_KEPT = 8
"""Vision features kept for a session: 5 MB per image for LLaVA-1.5, and a question rarely brings more than a few crops."""


class FilledLayer(DynamicLayer):
    """Keys and values in a buffer that is larger than they are: a token is written, where transformers copies all of them.

    What is handed out is the filled part alone, (1, heads, tokens, width).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        self.keys, self.values = self._written(self.keys, key_states, end), self._written(self.values, value_states, end)
        self.length = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def _written(self, held: torch.Tensor | None, new: torch.Tensor, end: int) -> torch.Tensor:
        if held is None or held.dim() < 4 or end > held.shape[-2]:
            larger = new.new_empty((*new.shape[:-2], max(LEAST_BUCKET, 1 << (end - 1).bit_length()), new.shape[-1]))
            if held is not None and held.dim() == 4:
                larger[..., : self.length, :] = held[..., : self.length, :]
            held = larger
        held[..., self.length : end, :] = new
        return held

    def get_seq_length(self) -> int:
        return self.length

    def crop(self, tokens_to_remove: int) -> None:
        self.length -= abs(tokens_to_remove)

    def reset(self) -> None:
        super().reset()
        self.length = 0


def new_cache(model: Any) -> Cache:
    """An empty cache for a model; layers of a kind that forgets (a sliding window) stay as transformers has them."""
    cache = DynamicCache(config=model.config.get_text_config())
    cache.layers = [FilledLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@dataclass(frozen=True)
class Segment:
    """A part of a prompt that is read in one pass: its token ids, and a digest for each image that begins in it."""

    ids: tuple[int, ...]
    images: tuple[bytes, ...] = ()


def split(ids: Sequence[int], cuts: Sequence[int], images: Sequence[bytes], image_id: int, per_image: int) -> list[Segment]:
    """The prompt's segments; the last one ends it and is never empty."""
    edges = [0, *(cut for cut in cuts if cut < len(ids)), len(ids)]
    segments, seen = [], 0
    for start, end in pairwise(edges):
        part = tuple(ids[start:end])
        new = part.count(image_id) // per_image
        segments.append(Segment(part, tuple(images[seen : seen + new])))
        seen += new
    return segments


def digest(image: Image.Image, seen: Callable[[Image.Image], Image.Image]) -> bytes:
    """What tells images apart: mode, size, palette and every pixel of what is `seen` of it; read once while it lives."""
    return once(image, "digest", lambda: _digest(seen(image)))


def _digest(image: Image.Image) -> bytes:
    return hashlib.sha256(repr((image.mode, image.size, image.getpalette())).encode() + image.tobytes()).digest()


@dataclass
class Kept:
    """What is computed for one session: whole segments with their cache, and (tokens, d) features by an image's digest.

    The cache may hold more behind the segments, an answer or what was broken off; `resume` takes it away.
    """

    cache: Any
    segments: list[Segment] = field(default_factory=list)
    features: OrderedDict[bytes, torch.Tensor] = field(default_factory=OrderedDict)

    def resume(self, wanted: Sequence[Segment]) -> int:
        """How many segments of `wanted`, at most all but the last, need not be computed; the cache then holds just these."""
        same = next((i for i, (a, b) in enumerate(zip(self.segments, wanted, strict=False)) if a != b), len(self.segments))
        can_go_back = all(isinstance(layer, FilledLayer) for layer in self.cache.layers)
        same = min(same, len(wanted) - 1) if can_go_back else 0
        del self.segments[same:]
        tokens = sum(len(segment.ids) for segment in self.segments)
        for layer in self.cache.layers:
            if can_go_back:  # each by itself: work that was broken off left them at different lengths
                layer.crop(min(0, tokens - layer.length))
            else:
                layer.reset()
        return same

    def keep_image(self, key: bytes, features: torch.Tensor) -> None:
        self.features[key] = features
        while len(self.features) > IMAGES_KEPT:
            self.features.popitem(last=False)

    @property
    def bytes(self) -> int:
        states = [getattr(layer, name, None) for layer in self.cache.layers for name in ("keys", "values")]
        return sum(tensor.nbytes for tensor in (*states, *self.features.values()) if tensor is not None)


class Sessions:
    """What is kept for each session, `most_bytes` in all; who was here least recently is forgotten first.

    A name with a slash is a part of the session before it, and is forgotten with it. Any thread may call.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = Lock()

    def open(self, session: str, model: Any) -> Kept:
        """What is kept for this session, nothing at first."""
        with self._lock:
            kept = self._kept.pop(session, None) or Kept(new_cache(model))
            self._kept[session] = kept  # the newest stands last
            return kept

    def holds(self, session: str, kept: Kept) -> bool:
        """Whether it is still wanted."""
        with self._lock:
            return self._kept.get(session) is kept

    def trim(self, in_use: Kept) -> None:
        """Forget others until all fits, or only what is in use is left."""
        with self._lock:
            for name in [name for name, kept in self._kept.items() if kept is not in_use]:
                if self.bytes <= self._most_bytes:
                    break
                del self._kept[name]

    @property
    def bytes(self) -> int:
        return sum(kept.bytes for kept in list(self._kept.values()))

    def forget(self, session: str) -> None:
        with self._lock:
            for name in [name for name in self._kept if name == session or name.startswith(f"{session}/")]:
                del self._kept[name]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
