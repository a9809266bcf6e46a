"""The local engine: LLaVA in this process, answering callers in turn.

Knows a loaded checkpoint, sessions and memory. Does not know where prompts come from, pages or files.
"""

import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from chat.engine.base import Delta, DoesNotFit, EngineUnavailable, Limits, Message, OutOfMemory, Sampling
from chat.engine.checkpoint import Loaded
from chat.engine.decode import Stopped, decode, layers_of, read, watched
from chat.engine.devices import room_for_sessions
from chat.engine.packed import pack
from chat.engine.prefix import Kept, Sessions, digest, new_cache, split
from chat.engine.scoring import branch, log_probabilities, rows_at_once, sharing
from chat.engine.sight import bounded, look, project, width
from chat.engine.turnstile import Stream, Ticket, Turnstile
from chat.memory import give_back
from chat.prompt import SYSTEM, Encoded, encode

FEATURE_BATCH = 16

_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


class LocalEngine:
    """Engine and Scorer on one checkpoint. One caller at a time uses the device; counting tokens needs no turn.

    `kept_bytes` bounds what is kept for sessions that wait, and `at_once` the prompts of one pass in `choose`; by default
    this machine's memory says both.
    """

    def __init__(self, loaded: Loaded, kept_bytes: int | None = None, at_once: int | None = None) -> None:
        self.name = loaded.name
        self.limits: Limits = loaded.limits
        self.description = loaded.description
        self.fit = loaded.fit
        self.input_side = loaded.input_side
        self._loaded: Loaded | None = loaded
        self._layers = layers_of(loaded.model)
        self._turnstile = Turnstile()
        self._tokenizing = Lock()
        self._sessions = Sessions(room_for_sessions(loaded.device) if kept_bytes is None else kept_bytes)
        self._at_once, self._is_packed = at_once, False

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
        """Read what stands before the question. Gives way to others within a layer and to this session's own question
        behind a segment; what stands by then stays. Raises OutOfMemory.
        """
        encoded = self._encode(messages)
        kept = self._sessions.open(session, self._ready().model)

        def is_wanted() -> bool:
            return self._sessions.holds(session, kept) and all(owner == session for owner in self._turnstile.waiting[:1])

        with self._turnstile.turn(session), suppress(Stopped), self._at_work(is_wanted):
            if len(encoded.ids) <= self.limits.context_tokens:
                self._read(encoded, kept, lambda: not self._turnstile.waiting)

    def stream(self, messages: Sequence[Message], sampling: Sampling, session: str) -> Iterator[Delta]:
        encoded = self._fitting(messages, sampling.max_new_tokens)
        ticket = Ticket(session)
        return Stream(self._turnstile, self._answer(encoded, sampling, ticket), ticket)

    def stop(self, session: str) -> None:
        """End the answer under way for this session within a layer, from any thread; what is computed stays."""
        self._turnstile.stop(session)

    def forget(self, session: str) -> None:
        self._sessions.forget(session)
        give_back()

    def close(self) -> None:
        """Free the model once the answer in hand has ended; whoever comes later is told that the engine is gone."""
        with self._turnstile.turn():
            self._loaded, self._layers = None, []
            self._sessions.clear()
            torch.cuda.empty_cache()

    def choose(self, batch: Sequence[Sequence[Message]], options: Sequence[str]) -> NDArray[np.float32]:
        """Each row is the softmax of the options' log-probabilities, every token of an option counted.

        A device that is too small for several prompts in one pass gets fewer. Raises OutOfMemory when one is too many.
        """
        tokenizer = self._ready().tokenizer
        with self._tokenizing:
            choices = [tokenizer.encode(option, add_special_tokens=False) for option in options]
        longest = max(map(len, choices), default=0)
        kept, left = Kept(new_cache(self._ready().model)), [self._fitting(messages, longest) for messages in batch]
        parts = [np.zeros((0, len(options)), np.float32)]
        most = self._at_once or rows_at_once(self._ready(), kept.cache, max((len(one.ids) for one in left), default=1))
        while left:
            try:
                with self._turnstile.turn(), self._at_work():
                    parts.append(self._log_probabilities(sharing(left[:most]), choices, kept).softmax(-1).cpu().numpy())
                left = left[most:]
                continue
            except OutOfMemory:
                if most == 1:
                    raise
            most, kept = min(most, len(left)) // 2 or 1, Kept(new_cache(self._ready().model))
        return np.concatenate(parts)

    def features(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """What the vision tower says of each patch, before the projector, at the layer that the language model reads."""
        parts = [np.zeros((0, self.limits.tokens_per_image, width(self._ready())), np.float32)]
        for start in range(0, len(images), FEATURE_BATCH):
            with self._turnstile.turn(), self._at_work():
                parts.append(look(self._ready(), images[start : start + FEATURE_BATCH]).float().cpu().numpy())
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

    @contextmanager
    def _at_work(self, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """On the device: asks before each layer whether to go on, and lets go of all that is kept when memory is full."""
        try:
            with device_errors(), watched(self._layers, is_wanted):
                if not self._is_packed:  # at the first use, as bitsandbytes does: until then an adapter may be attached
                    pack(self._ready().model)
                    self._is_packed = True
                yield
        except OutOfMemory:
            self._sessions.clear()
            raise

    def _answer(self, encoded: Encoded, sampling: Sampling, ticket: Ticket) -> Generator[Delta, None, None]:
        loaded = self._ready()
        kept = self._sessions.open(ticket.owner, loaded.model)
        with suppress(Stopped), self._at_work(lambda: not ticket.is_closed):
            ids, features = self._read(encoded, kept)
            yield from decode(loaded.model, loaded.tokenizer, ids, features, sampling, loaded.end_ids, kept.cache)

    def _read(
        self, encoded: Encoded, kept: Kept, goes_on: Callable[[], bool] = lambda: True
    ) -> tuple[Sequence[int], list[torch.Tensor]]:
        """Bring what is kept up to the prompt's last segment, and give that: its ids, and features for its images.

        Where `goes_on` says no between two segments, those before it stay.
        """
        loaded = self._ready()
        keys = [digest(image, bounded) for image in encoded.images]
        images = dict(zip(keys, encoded.images, strict=True))
        segments = split(encoded.ids, encoded.cuts, keys, loaded.image_token_id, loaded.tokens_per_image)
        for segment in segments[kept.resume(segments) : -1]:
            if not goes_on():
                return (), []
            read(loaded.model, segment.ids, self._see(segment.images, images, kept), kept.cache)
            kept.segments.append(segment)
            self._sessions.trim(kept)
        return segments[-1].ids, self._see(segments[-1].images, images, kept)

    def _see(self, keys: Sequence[bytes], images: Mapping[bytes, Image.Image], kept: Kept) -> list[torch.Tensor]:
        """Projected features, (tokens, d) per image, each image through the tower once while it is kept.

        One image at a time, so that the numbers do not depend on what else the prompt holds. Kept in the
        computer's memory, not the device's.
        """
        loaded, found = self._ready(), []
        for key in keys:
            if key not in kept.features:
                kept.keep_image(key, project(loaded, look(loaded, [images[key]]))[0].cpu())
            found.append(kept.features[key].to(loaded.device))
        for key in images.keys() & kept.features.keys():
            kept.features.move_to_end(key)
        return found

    def _log_probabilities(self, prompts: Sequence[Encoded], choices: Sequence[Sequence[int]], kept: Kept) -> torch.Tensor:
        """(n, k) log-probabilities in one pass; what the prompts share is read before it, once."""
        model, read_up = self._ready().model, [self._read(one, kept) for one in prompts]
        cache = branch(model, kept.cache, len(prompts)) if len(prompts) > 1 else kept.cache
        features = [feature for _, own in read_up for feature in own]
        return log_probabilities(model, [ids for ids, _ in read_up], features, cache, choices)


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
