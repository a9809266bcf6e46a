"""The bridge: how the language model starts, so that what a patch shows and the word for it are one direction.

Knows the tower's heads, a vocabulary and Llama's parameters. Does not know lessons or training.

Each class of a head ("red", "star", "third of the height: upper") gets one random direction. The projector adds up the
directions of what a patch shows, the words for a class start from its direction, and three heads of attention start as a
lookup (`finetune.circuit`): to answer "which colour is the star?" is to find a direction and to copy its neighbour.
"""

from collections import defaultdict

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerBase

from finetune.circuit import Marks, lay
from finetune.easel import COLOURS, SIZES
from finetune.outlines import SHAPES
from finetune.phantom import ZONES
from finetune.scene_words import COLOURS_KO, KINDS_KO, SIZES_KO, SYNONYMS
from finetune.tower import Tower

SPREAD, SAID = 0.3, 0.003
"""Standard deviation of the entries of what is read, words and patches, and of the rows that score what is said; a word is half
its class's direction and half its own. Read in the smaller size, the first steps of training would wipe out the circuit, whose
output is as large as what it reads."""
SHARP = 3.0
"""Where a head's usual answer lies on the projector's GELU, far enough out to be passed on as it is."""

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
LOOKED_UP = ("kind", "colour", "size", "row", "column")
"""Heads whose words single out a shape."""
THINGS = 3
"""The first so many of them say nothing of a patch without a shape."""
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
    marks = Marks(*torch.randn(5, model.lm_head.in_features) * SPREAD)
    name_words(model, tokenizer, seen, marks)
    open_eyes(model, tower, pixel_values, seen, marks)
    others = torch.cat([values[name in QUIET :] for name, values in seen.items() if name not in (*LOOKED_UP, "letter")])
    lay(model.model.language_model, [seen[name][1:] for name in LOOKED_UP], THINGS, others, marks)


@torch.no_grad()
def name_words(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, seen: dict[str, torch.Tensor], marks: Marks
) -> None:
    """Start the words for what the tower tells apart from the directions that show it, when read and when said."""
    tables = (model.model.language_model.embed_tokens.weight, model.lm_head.weight)
    pieces: defaultdict[str, list[int]] = defaultdict(list)
    for piece, token in tokenizer.get_vocab().items():
        pieces[piece.removeprefix("\u2581").lower()].append(token)
    tables[0].normal_(std=SPREAD)
    tables[1].normal_(std=SAID)
    shown = torch.linalg.qr(torch.cat([*seen.values(), marks.stacked()]).T).Q
    for table in tables:  # a word that names nothing must not look as if it named a little of everything
        table -= table @ shown @ shown.T
    tables[0].add_(marks.word)
    tables[0][tokenizer.bos_token_id] += marks.rest
    named = set()
    for head, values in NAMED.items():
        for number, value in enumerate(values, 1):
            whole, beginnings = words_for(head, value)
            for word in (w for w in pieces if w in whole or (beginnings and w.startswith(beginnings))):
                named.update(pieces[word])
                tables[0][pieces[word]] += seen[head][number]
                tables[1][pieces[word]] += seen[head][number] * (SAID / SPREAD)
    tables[0][sorted(named)] += marks.named


@torch.no_grad()
def open_eyes(
    model: LlavaForConditionalGeneration,
    tower: Tower,
    pixel_values: torch.Tensor,
    seen: dict[str, torch.Tensor],
    marks: Marks,
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
    second.bias.copy_(marks.patch)
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
