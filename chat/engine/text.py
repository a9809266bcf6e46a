"""The text engine: a causal language model in this process that reads no pictures, with its own chat template.

Knows transformers' text models and their templates. Does not know prompts, pages or what is asked of it.
"""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from chat.engine import checkpoint
from chat.engine.base import Delta, DoesNotFit, EngineRefused, EngineUnavailable, Limits, Message, Sampling
from chat.engine.decode import Stopped, decode, layers_of, watched
from chat.engine.local import device_errors
from chat.engine.packed import pack
from chat.engine.shards import read_json
from chat.engine.turnstile import Stream, Ticket, Turnstile

log = logging.getLogger(__name__)

LEAST_CONTEXT = 2048
"""What is assumed of a model that does not say how much it reads."""

PROBE = (Message("user", ("Hello.",)), Message("assistant", ("Hello.",)), Message("user", ("Hello?",)))


class TextEngine:
    """Engine on a text model. One caller at a time uses the device; nothing is kept between two answers."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.name = name
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.limits = Limits(context or LEAST_CONTEXT, tokens_per_image=0, max_images=0)
        pack(model)
        self._model: Any = model
        self._tokenizer = tokenizer
        self._end_ids = checkpoint.end_ids(model, tokenizer)
        self._turnstile = Turnstile()
        self._tokenizing = Lock()

    def count(self, messages: Sequence[Message]) -> int:
        return len(self._encode(messages))

    def prepare(self, messages: Sequence[Message], session: str) -> None:
        """Nothing is computed ahead."""

    def stream(self, messages: Sequence[Message], sampling: Sampling, session: str) -> Iterator[Delta]:
        ids = self._encode(messages)
        needed = len(ids) + sampling.max_new_tokens
        if needed > self.limits.context_tokens:
            raise DoesNotFit(needed, self.limits.context_tokens)
        ticket = Ticket(session)
        return Stream(self._turnstile, self._answer(ids, sampling, ticket), ticket)

    def stop(self, session: str) -> None:
        """End the answer under way for this session within a layer, from any thread."""
        self._turnstile.stop(session)

    def forget(self, session: str) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Free the model once the answer in hand has ended; whoever comes later is told that it is gone."""
        with self._turnstile.turn():
            self._model = None
            torch.cuda.empty_cache()

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        """The prompt as the model's template lays it out; control tokens that somebody typed stay plain letters."""
        if any(message.images for message in messages):
            raise EngineRefused(f"{self.name} does not read pictures.", "no_vision", name=self.name)
        said = [{"role": message.role, "content": "".join(map(str, message.parts))} for message in messages]
        with self._tokenizing:  # a fast tokenizer refuses a second thread while its settings change
            encoded: Any = self._tokenizer.apply_chat_template(
                said, add_generation_prompt=True, sanitize_control_tokens=True, enable_thinking=False
            )
        return list(encoded["input_ids"])

    def _answer(self, ids: Sequence[int], sampling: Sampling, ticket: Ticket) -> Generator[Delta, None, None]:
        if self._model is None:
            raise EngineUnavailable("The engine has been closed. Start Hilum again.")
        with suppress(Stopped), device_errors(), watched(layers_of(self._model), lambda: not ticket.is_closed):
            yield from decode(self._model, self._tokenizer, ids, [], sampling, self._end_ids)


def load(path: Path, device: str, four_bit: bool | None) -> TextEngine:
    """The text model at `path`, warmed up; `device` and `four_bit` as `checkpoint.load` takes them.

    Raises EngineUnavailable with one sentence on what is wrong and what to do.
    """
    with checkpoint.checkpoint_errors(path, "text model"):
        if not (path / "config.json").is_file():
            raise EngineUnavailable(f"There is no model in {path}: it holds no config.json. Name a folder that does.")
        config = read_json(path / "config.json")
        if "vision_config" in config:
            raise EngineUnavailable(f"{path} is a model that reads pictures. Name it as --model, and a text model as --writer.")
        four_bit, chosen = checkpoint.weigh(path, config, device, four_bit)
        device, dtype, is_four_bit, quantise = checkpoint.resolve(path, config, device, four_bit)
        tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model = checkpoint.load_model(AutoModelForCausalLM, path, device, dtype, quantise)
        if is_four_bit and device == "cpu":
            checkpoint.check_widths(path, model)
        engine = TextEngine(model, tokenizer, path.resolve().name)
    _try_template(path, engine)
    for _ in engine.stream(PROBE, Sampling(max_new_tokens=2, temperature=0), "warm-up"):
        pass  # alone, before anyone is served: the first forward repacks 4-bit weights and must not race
    weights = "4-bit NF4" if is_four_bit else str(dtype).removeprefix("torch.")
    memory = {"memory": chosen.meaning} if chosen else {}
    log.info("loaded %s", {"text model": engine.name, "device": device, "weights": weights, "limits": engine.limits} | memory)
    return engine


def _try_template(path: Path, engine: TextEngine) -> None:
    """A template is the checkpoint's own code, so whatever it raises is the checkpoint's fault."""
    try:
        engine.count(PROBE)
    except Exception as error:
        raise EngineUnavailable(
            f"{path} has no chat template that takes a conversation; name an instruction-tuned model."
        ) from error
