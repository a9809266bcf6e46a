"""The bridge: how the language model starts, so that what a patch shows and the word for it are one direction.

Knows the tower's heads, a vocabulary and Llama's parameters. Does not know lessons or training.

Each class of a head ("red", "star", "third of the height: upper") gets one random direction. The projector adds up the
directions of what a patch shows, the words for a class start from its direction, and attention starts as a match of
like with like that copies what it finds (after "Mimetic initialization of self-attention layers", Trockman and
Kolter 2023). To answer "which colour is the star?" is then to find a direction and to copy its neighbour; from a
random start, such a pairing takes a model of this size more lessons than 2 cores can read in a day.
"""

from collections import defaultdict

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerBase

from finetune.easel import COLOURS, SIZES
from finetune.outlines import SHAPES
from finetune.phantom import ZONES
from finetune.scene_words import COLOURS_KO, KINDS_KO, SIZES_KO, SYNONYMS
from finetune.tower import Tower

SPREAD = 0.02
"""Standard deviation of an embedding's entries; a word is half its class's direction and half its own."""
SHARP = 3.0
"""Where a head's usual answer lies on the projector's GELU, far enough out to be passed on as it is."""
ALIKE, COPIED = 1.0, 0.25
"""How strongly attention starts to look for like things, as a part of a query's own variance, and how much it adds."""

ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")
_PLACES_KO = {
    "upper": ("위", "상부"), "middle": ("가운데", "중간"), "lower": ("아래", "하부"),
    "left": ("왼쪽",), "centre": ("가운데", "한가운데"), "right": ("오른쪽",),
}  # fmt: skip
NAMED = {"kind": SHAPES, "colour": tuple(COLOURS), "size": SIZES, "row": ROWS, "column": COLUMNS, "zone": ZONES}
"""The classes of a head that have words, from class 1 on."""
PLACES = ("row", "column")
"""Heads that say something of every patch, shape or ground: there it counts double, or a shape's place is the faintest of
all that is shown of it."""
QUIET = (*NAMED, "ground", "letter", "centre", "lung", "opacity")
"""Heads whose class 0 is "nothing here", which is shown as nothing."""


def words_for(head: str, value: str) -> tuple[set[str], tuple[str, ...]]:
    """Whole pieces, and beginnings of Korean pieces, that name this class; both lower-case, without the leading space."""
    korean = {"kind": KINDS_KO, "colour": COLOURS_KO, "size": SIZES_KO}.get(head, {})
    own = (korean[value].split()[0],) if value in korean else _PLACES_KO[value]
    english = {value, f"{value}s", *SYNONYMS["en"].get(value, ())}
    names = [*own, *(name.split()[0] for name in SYNONYMS["ko"].get(value, ()))] if korean else list(own)
    return english | set(names), tuple(name for name in names if len(name) > 1)


def directions(tower: Tower, width: int) -> dict[str, torch.Tensor]:
    """(classes, width) random directions for every head of the tower; class 0 of a head in `QUIET` has none."""
    made = {name: torch.randn(head.out_features, width) * SPREAD for name, head in tower.named_heads().items()}
    for name in QUIET:
        made[name][0] = 0
    return made


def connect(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, tower: Tower, pixel_values: torch.Tensor
) -> None:
    """Start `model`, whose vision tower is `tower`'s, as above; `pixel_values` (n, 3, side, side) shows what is usual."""
    seen = directions(tower, model.lm_head.in_features)
    name_words(model, tokenizer, seen)
    open_eyes(model, tower, pixel_values, seen)
    match_alike(model)


@torch.no_grad()
def name_words(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, seen: dict[str, torch.Tensor]) -> None:
    """Start the words for what the tower tells apart from the directions that show it, when read and when said."""
    tables = (model.model.language_model.embed_tokens.weight, model.lm_head.weight)
    pieces: defaultdict[str, list[int]] = defaultdict(list)
    for piece, token in tokenizer.get_vocab().items():
        pieces[piece.removeprefix("\u2581").lower()].append(token)
    for head, values in NAMED.items():
        for number, value in enumerate(values, 1):
            whole, beginnings = words_for(head, value)
            for word in (w for w in pieces if w in whole or (beginnings and w.startswith(beginnings))):
                for table in tables:
                    table[pieces[word]] += seen[head][number]


@torch.no_grad()
def open_eyes(
    model: LlavaForConditionalGeneration, tower: Tower, pixel_values: torch.Tensor, seen: dict[str, torch.Tensor]
) -> None:
    """Start the projector: each patch as the sum of the directions of what the tower's heads say of it, and a little of
    all else that it holds. The heads' layer normalisation is taken at its mean scale on `pixel_values` (n, 3, side, side).
    """
    patches = model.model.vision_tower(pixel_values, output_hidden_states=True).hidden_states[-1][:, 1:].flatten(0, 1).float()
    first, second = model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2
    nn.init.normal_(first.weight, std=first.in_features**-0.5)
    first.weight /= patches.std(0).clamp(min=1e-3)
    first.bias.copy_(-(first.weight @ patches.mean(0)))
    nn.init.normal_(second.weight, std=SPREAD / 8)
    nn.init.zeros_(second.bias)
    scale = patches.var(-1, unbiased=False).add(tower.norm.eps).sqrt().mean()
    row = 0
    for name, head in tower.named_heads().items():
        weight, bias = head.weight - head.weight.mean(0), head.bias - head.bias.mean()
        bias = bias + weight @ tower.norm.bias
        weight = weight * tower.norm.weight
        weight = (weight - weight.mean(1, keepdim=True)) / scale
        usual = (patches @ weight.T + bias).amax(1).mean()
        here = slice(row, row := row + len(weight))
        first.weight[here], first.bias[here] = weight * SHARP / usual, bias * SHARP / usual
        second.weight[:, here] = seen[name].T / SHARP * (2 if name in PLACES else 1)


@torch.no_grad()
def match_alike(model: LlavaForConditionalGeneration) -> None:
    """Start every layer's attention so that a token looks for tokens like itself and adds what it finds there."""
    for layer in model.model.language_model.layers:
        attention = layer.self_attn
        query = torch.randn_like(attention.q_proj.weight) * (ALIKE / attention.q_proj.in_features) ** 0.5
        attention.q_proj.weight.copy_(query)
        attention.k_proj.weight.copy_(query)
        value = nn.init.orthogonal_(torch.empty_like(attention.v_proj.weight)) * COPIED**0.5
        attention.v_proj.weight.copy_(value)
        attention.o_proj.weight.copy_(value.T)
