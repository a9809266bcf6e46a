"""The circuit: three heads of attention that begin as a lookup, so that words find the patches they name.

Knows Llama's parameters and the directions that `finetune.bridge` gives to classes. Does not know towers, words or training.

"Which colour is the small star at the upper left?" takes three steps, and each begins as one head: a word that names
something gathers what its neighbours name (layer 0); it looks among the patches for those that show all of it, and takes over
what else they show (layer 1); every later token looks for such a word and takes that over in turn (layer 2). The other heads
and the layers between begin by adding nothing. A network of this size does find such a circuit by itself, but only after more
lessons than 2 cores can read in a day (compare Olsson et al. 2022 on induction heads, and Trockman and Kolter 2023,
"Mimetic initialization of self-attention layers").
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import normalize

WINDOW, NEAR = (4, 5, 6, 7), 2.0
"""Gathering: the pairs of rotated dimensions that tell distances apart, and the distance in tokens that they peak at."""
LAYERS = 3
"""Layers that it lies in, from the first on."""
FAR = 1000
"""Tokens over which a lookup must not care about distance: only pairs that turn less than a radian over so many are used."""
RECENT = (8, 9, 10, 11)
"""Recalling: the pairs that tell a word just said from one that was said a hundred tokens ago."""
GATHERED, MATCHED, DRAWN, FOUND, AT_REST = 3.0, 6.0, 40.0, 32.0, 8.0
"""Log odds in attention: a neighbour that names something, for each pair of `WINDOW`; a class that word and patch share; a
patch that shows any thing, for a word that names one; a word that has found its patches, for any later token; the beginning
of the text, where attention rests that looks for nothing (Xiao et al. 2024 on attention sinks)."""


@dataclass(frozen=True)
class Marks:
    """Directions, (width,) each: of every word, of words that name a class, of patches, of words that found theirs, and of
    the beginning of a text."""

    word: torch.Tensor
    named: torch.Tensor
    patch: torch.Tensor
    found: torch.Tensor
    rest: torch.Tensor

    def stacked(self) -> torch.Tensor:
        return torch.stack([self.word, self.named, self.patch, self.found, self.rest])


class Reader:
    """Reads how much of each direction is in a normalised state, exactly, though the directions are not quite orthogonal."""

    def __init__(self, directions: torch.Tensor) -> None:
        self.unit = normalize(directions, dim=-1)
        self.dual = torch.linalg.solve(self.unit @ self.unit.T, self.unit)


@torch.no_grad()
def lay(text: Any, groups: list[torch.Tensor], things: int, others: torch.Tensor, marks: Marks) -> None:
    """Start the layers of a Llama: `groups` holds (classes, width) directions, of which a word names one each, and a patch
    shows one each; the first `things` of them only where there is a thing. `others` (n, width) is what patches show besides.
    At most a head's width of directions in all.
    """
    named = torch.cat(groups)
    shown = torch.cat([named, others])
    reader = Reader(torch.cat([shown, marks.stacked()]))
    what, (word, name, patch, found, rest) = reader.dual[: len(shown)], reader.dual[len(shown) :]
    size = named[0].norm()
    base, width = text.config.rope_parameters["rope_theta"], text.config.head_dim
    turns = base ** (-torch.arange(width // 2) * 2 / width)
    slow = [int(i) for i in torch.nonzero(turns * FAR < 1).flatten()]
    slow += [i + width // 2 for i in slow]
    for layer in text.layers:
        layer.mlp.down_proj.weight.zero_()
        layer.self_attn.o_proj.weight.zero_()
    full = shown.shape[-1] ** 0.5
    usual = full / 2  # a word is itself, its class, "a word" and "a name", in equal parts
    seen = full / 4  # a patch shows about sixteen times the square of one class

    gather = _Head(text.layers[0].self_attn, 0, width)
    phase = turns[list(WINDOW)] * NEAR
    for i, angle in zip(WINDOW, phase, strict=True):
        strength = GATHERED / usual**2
        gather.look(i, name, name * angle.cos(), strength)
        gather.key[i + width // 2] = gather.query[i] * angle.sin()
    gather.look(slow[0], word, rest, AT_REST / usual**2)
    gather.copy(what, shown, 0.7 * size / usual)

    match = _Head(text.layers[1].self_attn, 0, width)
    row = start = 0
    for group in groups:
        apart = _simplex(len(group)) @ reader.dual[start : start + len(group)]
        start += len(group)
        for part in apart:
            match.look(slow[row], part, part, MATCHED / usual / seen)
            row += 1
    thing = what[: sum(len(group) for group in groups[:things])].sum(0) / things
    match.look(slow[row], name, (patch + thing) / 2, DRAWN / usual / seen)
    match.look(slow[row + 1], word, rest, AT_REST / usual**2)
    match.copy(torch.cat([what, patch[None]]), torch.cat([shown, marks.found[None]]), size / seen / 2)

    recall = _Head(text.layers[2].self_attn, 0, width)
    for i in RECENT:
        recall.look(i, word, found, FOUND / len(RECENT) / usual / seen)
    recall.look(slow[0], word, -patch, FOUND / usual / seen)
    recall.look(slow[1], word, rest, AT_REST / usual**2)
    recall.copy(what, shown, size / seen / 2)


class _Head:
    """One head's rows of the query, key and value projections, all zero at first, and its columns of the output's."""

    def __init__(self, attention: Any, number: int, width: int) -> None:
        here = slice(number * width, (number + 1) * width)
        self.query, self.key, self.value = (getattr(attention, f"{name}_proj").weight[here] for name in ("q", "k", "v"))
        self.output = attention.o_proj.weight[:, here]
        for part in (self.query, self.key, self.value):
            part.zero_()

    def look(self, row: int, asked: torch.Tensor, told: torch.Tensor, strength: float) -> None:
        """Add `strength` log odds for what there is of direction `asked` in the query, times of `told` in the key."""
        scale = (strength * len(self.query) ** 0.5) ** 0.5
        self.query[row], self.key[row] = asked * scale, told * scale

    def copy(self, read: torch.Tensor, written: torch.Tensor, gain: float) -> None:
        """Take over how much there is of each direction `read`, as so much of the direction `written`."""
        self.value[: len(read)] = read
        self.output[:, : len(read)] = normalize(written, dim=-1).T * gain


def _simplex(classes: int) -> torch.Tensor:
    """(classes - 1, classes): coordinates in which one class and another are alike to -1 / (classes - 1)."""
    axes: torch.Tensor = torch.linalg.svd(torch.eye(classes) - 1 / classes).Vh
    return axes[: classes - 1].mul((classes / (classes - 1)) ** 0.5)
