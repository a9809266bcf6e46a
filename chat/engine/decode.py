"""The token loop: logits to tokens, tokens to whole characters.

Knows one model, its cache and its tokenizer. Does not know messages, sessions, locks or where weights come from.
Written out rather than left to `generate`, which runs in a thread that nobody can stop; greedy ids are the same.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    Cache,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
)  # fmt: skip
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPooling

from chat.engine.base import Delta, Sampling
from chat.engine.prefix import new_cache

_ATTENTION = "sdpa_doubled"
_BROKEN = "\ufffd"
_LONGEST_LETTER = 4
"""Bytes of the longest UTF-8 character, so the most tokens that one can be spread over."""


def decode(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    features: Sequence[torch.Tensor],
    sampling: Sampling,
    end_ids: frozenset[int],
    cache: Cache | None = None,
) -> Iterator[Delta]:
    """One Delta per token, and a last one for the end token, which is not among the ids.

    `ids` are what `cache` does not hold yet, `features` one (tokens, d) tensor for each image in them. A token that
    only begins a character comes with no text; the text follows with the token that completes it. Nothing is
    computed between two calls of next, so closing the iterator stops the work.
    """
    cache = new_cache(model) if cache is None else cache
    generator = _generator(model.device, sampling.seed)
    letters = Letters(tokenizer)
    logits = forward(model, ids, features, cache)
    for position in range(1, sampling.max_new_tokens + 1):
        token = choose_token(logits, sampling, generator)
        if token in end_ids:
            yield Delta(letters.flush(), (), "stop")
            return
        text = letters.push(token)
        if position == sampling.max_new_tokens:
            yield Delta(text + letters.flush(), (token,), "length")
            return
        yield Delta(text, (token,))
        logits = forward(model, [token], [], cache)


@torch.inference_mode()
def forward(
    model: LlavaForConditionalGeneration, ids: Sequence[int], features: Sequence[torch.Tensor], cache: Cache, keep: int = 1
) -> torch.Tensor:
    """(keep, vocabulary) float32 logits of the last `keep` of `ids`, which are appended to `cache`."""
    logits: torch.Tensor = model(**inputs(model, [ids], features, cache), logits_to_keep=keep).logits
    return logits[0].float()


@torch.inference_mode()
def read(model: LlavaForConditionalGeneration, ids: Sequence[int], features: Sequence[torch.Tensor], cache: Cache) -> None:
    """Append `ids` to `cache`, and ask for no logits."""
    model.model(**inputs(model, [ids], features, cache))


def inputs(model: Any, rows: Sequence[Sequence[int]], features: Sequence[torch.Tensor], cache: Cache) -> dict[str, Any]:
    """What a forward pass over rows of one length takes; the features of a row's images stand before those of the next."""
    given = {"input_ids": torch.tensor([list(ids) for ids in rows], device=model.device), "past_key_values": cache}
    if features:
        pooled: Any = list(features)
        given["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
    return given | {"use_cache": True}


def quicken(model: Any, is_on: bool = True) -> None:
    """Let a language model attend by `_attend` where it would by torch's own kernel, or as it comes again."""
    config, (before, after) = model.config.get_text_config(), ("sdpa", _ATTENTION) if is_on else (_ATTENTION, "sdpa")
    if config._attn_implementation == before:
        config._attn_implementation = after


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None, **own: Any
) -> tuple[torch.Tensor, None]:
    """transformers' own, with a lone 16-bit query on a processor doubled: torch's kernel takes two rows 2 to 7 times as fast.

    For one row it falls back to products of vectors; the numbers are the same but for a last bit in a thousand.
    """
    is_slow = query.shape[2] == 1 and query.device.type == "cpu" and query.dtype.itemsize == 2
    if not is_slow or getattr(module, "num_key_value_groups", 1) > 1:  # where heads share keys, their queries are rows already
        return sdpa_attention_forward(module, query, key, value, attention_mask, **own)
    own["is_causal"] = False
    seen, _ = sdpa_attention_forward(module, query.expand(-1, -1, 2, -1), key, value, attention_mask, **own)
    return seen[:, :1], None


AttentionInterface.register(_ATTENTION, _attend)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


class Stopped(Exception):
    """Nobody wants any more what is being computed."""


def layers_of(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Whatever a model has several of in a row: the layers of its vision tower and of its language model."""
    return [layer for stack in model.modules() if isinstance(stack, torch.nn.ModuleList) for layer in stack]


@contextmanager
def watched(layers: Sequence[torch.nn.Module], is_wanted: Callable[[], bool]) -> Iterator[None]:
    """Ask before each of these layers whether to go on. Raises Stopped inside."""

    def check(*_: object) -> None:
        if not is_wanted():
            raise Stopped

    hooks = [layer.register_forward_pre_hook(check) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def choose_token(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The likeliest token, or one drawn at a temperature from the nucleus, as transformers draws it."""
    scores = logits[-1]
    if sampling.temperature == 0:
        return int(scores.argmax())
    scores = scores / sampling.temperature
    if sampling.top_p < 1:
        ordered, order = scores.sort()
        is_tail = ordered.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        is_tail[-1] = False
        scores[order[is_tail]] = -torch.inf
    return int(torch.multinomial(scores.softmax(-1), 1, generator=generator))


def _generator(device: torch.device, seed: int | None) -> torch.Generator:
    generator = torch.Generator(device)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator


class Letters:
    """Tokens in, whole characters out. What was given out never changes, and together it is `decode` of all the ids.

    Each piece is decoded behind a token of known text, so that a leading space is kept everywhere but at the very
    beginning, where the tokenizer itself drops it. A byte that cannot become a character comes out as U+FFFD and
    spoils no other; a character that the end cuts off is left out.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._silent = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        self._anchor: list[int] = []
        self._held: list[int] = []

    def push(self, token: int) -> str:
        """The characters that this token completes, often one piece, sometimes nothing."""
        if token not in self._silent:  # a special token between two bytes of a character would use up its room
            self._held.append(token)
        return self._release(waits=True)

    def flush(self) -> str:
        """What is left at the end, without the beginning of a character that never came."""
        return self._release(waits=False).rstrip(_BROKEN)

    def _release(self, waits: bool) -> str:
        text = ""
        while self._held:
            piece, tokens = self._first_whole()
            if not tokens and waits and len(self._held) < _LONGEST_LETTER:
                break
            text += piece if tokens else _BROKEN
            self._held = self._held[tokens or 1 :]
            self._anchor = self._anchor or self._tokenizer.encode("a", add_special_tokens=False)
        return text

    def _first_whole(self) -> tuple[str, int]:
        """The shortest beginning of what is held that is whole, and its tokens; 0 when there is none."""
        skip = len(self._text(self._anchor))
        for tokens in range(1, min(_LONGEST_LETTER, len(self._held)) + 1):
            piece = self._text(self._anchor + self._held[:tokens])[skip:]
            if _BROKEN not in piece:
                return piece, tokens
        return "", 0

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
