"""Mixing: things moved in the tower's features to another shape or colour, so that no word learns which of them go together.

Knows scenes, patches and vision towers. Does not know words. Some pairs of a colour and a shape are never drawn, and a language
model learns that sooner than either: of a purple square it says "heart". What a patch shows is nearly a sum, of its shape's,
its colour's and its size's part (Andreas 2019, "Measuring compositionality in representation learning", puts it so); with one
part exchanged, any shape is seen in any colour, while only the other attribute is asked for.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from finetune import canvas
from finetune.easel import COLOURS, SIZES, Item
from finetune.exchange import Random
from finetune.outlines import SHAPES
from finetune.patches import LEAST_SHARE
from finetune.scenes import Scene, draw_crowd

PARTS = {"kind": SHAPES, "colour": tuple(COLOURS)}
"""The attributes that are exchanged, and their values in the order of the tower's classes."""

Moved = NDArray[np.int64]
"""(4, patches): for kind and colour, the class from 1 that a patch shows and the one that it is moved to; 0 where it stays."""
STAYS: Moved = np.zeros((2 * len(PARTS), canvas.GRID**2), np.int64)


def mix(scene: Scene, rng: Random) -> tuple[Scene, Moved]:
    """The scene as if nobody knew one attribute of its things, kind or colour, and what that is moved to in each of them."""
    attribute = tuple(PARTS)[int(rng.integers(len(PARTS)))]
    row, values, shares = 2 * tuple(PARTS).index(attribute), PARTS[attribute], canvas.patch_shares(scene.index)
    moved, items = STAYS.copy(), []
    for number, item in enumerate(scene.items, 1):
        here = (shares[:, :, number] >= LEAST_SHARE).ravel()
        moved[row, here] = 1 + values.index(getattr(item, attribute))
        moved[row + 1, here] = 1 + int(rng.integers(len(values)))
        items.append(replace(item, kind="") if attribute == "kind" else replace(item, colour=""))
    return replace(scene, items=tuple(items)), moved


@torch.no_grad()
def find_parts(eyes: nn.Module, seed: int, crowds: int) -> list[torch.Tensor]:
    """Of each attribute in PARTS what it adds to a patch as the vision tower `eyes` gives it, (1 + values, width), by least
    squares over crowds; row 0 is 0.
    """
    shown, seen = [], []
    for number in range(crowds):
        scene = draw_crowd(np.random.default_rng([seed, 5, number]), apart=0.0, lettered=0.0)
        hidden = eyes(pixel_values=canvas.normalise(canvas.pixels(scene.image)[None]), output_hidden_states=True)
        shares = canvas.patch_shares(scene.index)
        for place, item in enumerate(scene.items, 1):
            here = torch.from_numpy((shares[:, :, place] >= LEAST_SHARE).ravel())
            patches = hidden.hidden_states[-1][0, 1:][here].float()
            seen.append(patches)
            shown.append(_shown(item).expand(len(patches), -1))
    solved = torch.linalg.lstsq(torch.cat(shown), torch.cat(seen), driver="gelsd").solution
    tables, start = [], 0
    for values in PARTS.values():
        own = solved[start : start + len(values)]
        tables.append(torch.cat([torch.zeros_like(own[:1]), own - own.mean(0)]))
        start += len(values)
    return tables


def _shown(item: Item) -> torch.Tensor:
    """(1, values of all attributes and sizes): one where the item has it."""
    known = ((item.kind, SHAPES), (item.colour, COLOURS), (item.size, SIZES))
    return torch.tensor([[value == own for own, values in known for value in values]], dtype=torch.float32)


def move(features: torch.Tensor, moved: torch.Tensor, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """(n, patches, width) features with the parts of (n, 4, patches) `moved` exchanged."""
    for place, table in enumerate(parts):
        features = features + (table[moved[:, 2 * place + 1]] - table[moved[:, 2 * place]]).to(features.dtype)
    return features
