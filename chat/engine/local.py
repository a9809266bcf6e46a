"""The local engine: LLaVA in this process, answering callers in turn.

Knows a loaded checkpoint, sessions and memory. Does not know where prompts come from, pages or files.
"""

import hashlib
import traceback
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import DynamicCache

from chat.engine.base import Delta, DoesNotFit, EngineUnavailable, Limits, Message, OutOfMemory, Sampling
from chat.engine.checkpoint import Loaded
from chat.engine.decode import decode, forward
from chat.engine.turnstile import Stream, Turnstile
from chat.prompt import SYSTEM, Encoded, encode

SESSIONS_KEPT = 16
IMAGES_KEPT = 8
"""Vision features that are kept: 5 MB per image for LLaVA-1.5, and a question rarely brings more than a few crops."""

WIDEST_EXACT = 4096
"""Up to this side an image is padded to its square as it stands; larger ones are averaged down first, or the square
of a 200-megapixel strip would not fit into memory."""

FEATURE_BATCH = 16

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")

Kept = OrderedDict[bytes, torch.Tensor]


class LocalEngine:
    """Engine and Scorer on one checkpoint. One caller at a time uses the device; counting tokens needs no turn."""

    def __init__(self, loaded: Loaded) -> None:
        self.name = loaded.name
        self.limits: Limits = loaded.limits
        self.description = loaded.description
        self.input_side = loaded.input_side
        self._loaded: Loaded | None = loaded
        self._turnstile = Turnstile()
        self._tokenizing = Lock()
        self._sessions: OrderedDict[str, Kept] = OrderedDict()

    def count(self, messages: Sequence[Message]) -> int:
        return len(self._encode(messages).ids)

    def warm_up(self) -> None:
        """A tiny answer, alone, before anyone is served: the first forward repacks 4-bit weights and must not race."""
        picture = Image.new("RGB", (self.input_side, self.input_side))
        messages = (Message("system", (SYSTEM,)), Message("user", (picture, "\n")))
        for _ in self.stream(messages, Sampling(max_new_tokens=2, temperature=0), session="warm-up"):
            pass
        self.forget("warm-up")

    def prepare(self, messages: Sequence[Message], session: str) -> None:
        with self._turnstile.turn(), device_errors():
            self._see(self._encode(messages).images, self._kept(session))

    def stream(self, messages: Sequence[Message], sampling: Sampling, session: str) -> Iterator[Delta]:
        encoded = self._fitting(messages, sampling.max_new_tokens)
        return Stream(self._turnstile, self._answer(encoded, sampling, session))

    def forget(self, session: str) -> None:
        self._sessions.pop(session, None)

    def close(self) -> None:
        """Free the model once the answer in hand has ended; whoever comes later is told that the engine is gone."""
        with self._turnstile.turn():
            self._loaded = None
            self._sessions.clear()
            torch.cuda.empty_cache()

    def choose(self, batch: Sequence[Sequence[Message]], options: Sequence[str]) -> NDArray[np.float32]:
        """Each row is the softmax of the options' log-probabilities, every token of an option counted."""
        tokenizer = self._ready().tokenizer
        with self._tokenizing:
            choices = [tokenizer.encode(option, add_special_tokens=False) for option in options]
        longest = max(map(len, choices), default=0)
        kept: Kept = OrderedDict()
        rows = []
        for messages in batch:
            encoded = self._fitting(messages, longest)
            with self._turnstile.turn(), device_errors():
                rows.append(self._log_probabilities(encoded, choices, kept).softmax(-1).cpu().numpy())
        return np.asarray(rows, dtype=np.float32).reshape(len(rows), len(options))

    def features(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """What the vision tower says of each patch, before the projector, at the layer that the language model reads."""
        parts = [np.zeros((0, self.limits.tokens_per_image, self._vision_width()), np.float32)]
        for start in range(0, len(images), FEATURE_BATCH):
            with self._turnstile.turn(), device_errors():
                pixels = torch.cat([self._pixels(_bounded(image)) for image in images[start : start + FEATURE_BATCH]])
                parts.append(self._tower(pixels).float().cpu().numpy())
        return np.concatenate(parts)

    def _ready(self) -> Loaded:
        if self._loaded is None:
            raise EngineUnavailable("The engine has been closed. Start Hilum again.")
        return self._loaded

    def _encode(self, messages: Sequence[Message]) -> Encoded:
        loaded, tokenizer = self._ready(), self._ready().tokenizer
        with self._tokenizing:  # a fast tokenizer refuses a second thread while its settings change
            return encode(messages, tokenizer, loaded.image_token_id, loaded.tokens_per_image)

    def _fitting(self, messages: Sequence[Message], new_tokens: int) -> Encoded:
        encoded = self._encode(messages)
        needed = len(encoded.ids) + new_tokens
        if needed > self.limits.context_tokens:
            raise DoesNotFit(needed, self.limits.context_tokens)
        return encoded

    def _answer(self, encoded: Encoded, sampling: Sampling, session: str) -> Generator[Delta, None, None]:
        loaded = self._ready()
        with device_errors():
            features = self._see(encoded.images, self._kept(session))
            yield from decode(loaded.model, loaded.tokenizer, encoded.ids, features, sampling, loaded.end_ids)

    def _kept(self, session: str) -> Kept:
        kept = self._sessions.setdefault(session, OrderedDict())
        self._sessions.move_to_end(session)
        while len(self._sessions) > SESSIONS_KEPT:
            self._sessions.popitem(last=False)
        return kept

    def _see(self, images: Sequence[Image.Image], kept: Kept) -> list[torch.Tensor]:
        """Projected features, (tokens, d) per image, each image through the tower once while it is kept.

        One image at a time, so that the numbers do not depend on what else the prompt holds. Kept in the
        computer's memory, not the device's.
        """
        features = []
        for image in images:
            small = _bounded(image)
            key = hashlib.sha256(repr(small.size).encode() + small.tobytes()).digest()
            if key not in kept:
                kept[key] = self._project(self._pixels(small)).cpu()
            kept.move_to_end(key)
            features.append(kept[key].to(self._ready().device))
            while len(kept) > IMAGES_KEPT:
                kept.popitem(last=False)
        return features

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        loaded = self._ready()
        processor: Any = loaded.image_processor
        pixels: torch.Tensor = processor(images=[image], return_tensors="pt")["pixel_values"]
        return pixels.to(loaded.device, loaded.dtype)

    @torch.inference_mode()
    def _project(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled: Any = self._ready().model.get_image_features(pixel_values=pixels).pooler_output
        projected: torch.Tensor = pooled[0]
        return projected

    @torch.inference_mode()
    def _tower(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, patches, d), cut to the layers and the strategy of the config, as `get_image_features` cuts them."""
        model: Any = self._ready().model
        layers = model.config.vision_feature_layer
        states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        chosen = torch.cat([states[layer] for layer in ([layers] if isinstance(layers, int) else layers)], dim=-1)
        return chosen[:, 1:] if model.config.vision_feature_select_strategy == "default" else chosen

    def _vision_width(self) -> int:
        config: Any = self._ready().model.config
        layers = config.vision_feature_layer
        return int(config.vision_config.hidden_size) * (1 if isinstance(layers, int) else len(layers))

    def _log_probabilities(self, encoded: Encoded, choices: Sequence[Sequence[int]], kept: Kept) -> torch.Tensor:
        """(k,) log-probabilities: the prompt is read once, and each option of several tokens once more behind it."""
        model = self._ready().model
        cache = DynamicCache(config=model.config.get_text_config())
        first = forward(model, encoded.ids, self._see(encoded.images, kept), cache).log_softmax(-1)
        totals = []
        for choice in choices:
            total = first[-1, choice[0]]
            if len(choice) > 1:
                later = forward(model, choice[:-1], [], cache, keep=len(choice) - 1).log_softmax(-1)
                total = total + later[range(len(choice) - 1), choice[1:]].sum()
                cache.crop(1 - len(choice))
            totals.append(total)
        return torch.stack(totals)


def _bounded(image: Image.Image) -> Image.Image:
    factor = -(-max(image.size) // WIDEST_EXACT)
    return image.reduce((min(factor, image.width), min(factor, image.height))) if factor > 1 else image


@contextmanager
def device_errors() -> Iterator[None]:
    """The one place where a full device becomes OutOfMemory; anything else that torch raises is a bug.

    The failed frames are cleared first, so that the error does not hold on to their tensors.
    """
    try:
        yield
        return
    except (torch.OutOfMemoryError, MemoryError) as error:
        traceback.clear_frames(error.__traceback__)
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in _OUT_OF_MEMORY):
            raise
        traceback.clear_frames(error.__traceback__)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise OutOfMemory("The device's memory is full. Ask for a shorter answer or fewer crops, or close other programs.")
