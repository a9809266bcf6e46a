"""Scoring: how likely each of some answers is behind several prompts, in one forward pass.

Knows token ids, a model and its cache. Does not know messages, sessions or who asks.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import Cache, DynamicCache

from chat.engine.checkpoint import Loaded
from chat.engine.decode import inputs
from chat.engine.devices import free_bytes
from chat.engine.prefix import FilledLayer
from chat.prompt import Encoded

MOST_ROWS = 16


def rows_at_once(loaded: Loaded, cache: Any, tokens: int) -> int:
    """How many prompts of so many tokens to read in one pass.

    On a GPU what half of its free memory holds. On a processor one: there four at once take 0.9 of the time, and alone a
    prompt's probabilities are the same to the last bit whatever is asked beside it.
    """
    if not loaded.device.startswith("cuda") or not all(isinstance(layer, FilledLayer) for layer in cache.layers):
        return 1
    shape = loaded.model.config.get_text_config()
    kept = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
    passing = 8 * (shape.hidden_size + shape.intermediate_size)
    each = int(tokens * (kept + passing)) * loaded.dtype.itemsize
    return max(1, min(MOST_ROWS, free_bytes(loaded.device) // 2 // each))


def sharing(prompts: Sequence[Encoded]) -> list[Encoded]:
    """The same prompts, cut only behind a first image that all begin with, so that it is read once for all of them."""
    first = prompts[0]
    cuts = first.cuts[:1] if len(first.images) > 1 else ()  # nothing that the next could share is worth a pass of its own
    begins = all(one.ids[:cut] == first.ids[:cut] and one.images[:1] == first.images[:1] for cut in cuts for one in prompts)
    return [replace(one, cuts=cuts if begins else ()) for one in prompts]


def branch(model: Any, cache: Any, rows: int) -> Cache:
    """What is kept, once for each of so many rows; the original is not touched."""
    copy = DynamicCache(config=model.config.get_text_config())
    if held := cache.get_seq_length():
        for number, layer in enumerate(cache.layers):
            copy.update(*(kept[..., :held, :].expand(rows, -1, -1, -1) for kept in (layer.keys, layer.values)), number)
    return copy


@torch.inference_mode()
def log_probabilities(
    model: Any, rows: Sequence[Sequence[int]], features: Sequence[torch.Tensor], cache: Any, choices: Sequence[Sequence[int]]
) -> torch.Tensor:
    """(rows, choices) float32: each row is read once behind `cache`, each choice of several tokens once more behind it.

    A shorter row is filled up behind its end, where none of its own tokens looks.
    """
    known, longest, device = cache.get_seq_length(), max(map(len, rows)), model.device
    lengths = torch.tensor([[len(row)] for row in rows], device=device)
    filled = [[*row, *[row[-1]] * (longest - len(row))] for row in rows]
    ends, which = (lengths[:, 0] - 1).unique(return_inverse=True)
    logits = model(**inputs(model, filled, features, cache), logits_to_keep=ends).logits
    first = logits[range(len(rows)), which].float().log_softmax(-1)
    totals = []
    for choice in choices:
        total, more = first[:, choice[0]], len(choice) - 1
        if more:
            places = torch.arange(known + longest + more, device=device)
            seen = (places < known + lengths) | (places >= known + longest)
            behind = known + lengths + torch.arange(more, device=device)
            given = inputs(model, [choice[:-1]] * len(rows), [], cache)
            later = model(**given, attention_mask=seen.long(), position_ids=behind, logits_to_keep=more).logits
            total = total + later.float().log_softmax(-1)[:, range(more), choice[1:]].sum(-1)
            cache.crop(-more)
        totals.append(total)
    return torch.stack(totals, -1)
