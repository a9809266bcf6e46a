"""Patches: what stands on each patch of a drawn picture, as classes that a tower can be taught.

Knows the truth of scenes and phantoms and the patch grid. Does not know towers or language.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from finetune import canvas
from finetune.easel import COLOURS, LETTERS, SIZES
from finetune.outlines import SHAPES
from finetune.phantom import ZONES, Phantom
from finetune.scene_view import View
from finetune.scene_words import CELLS, COLOURS_KO
from finetune.scenes import Scene

LEAST_SHARE = 0.12
"""A patch is labelled with what covers at least this share of it."""

GROUND = tuple(COLOURS_KO)

SCENE_HEADS = {
    "kind": 1 + len(SHAPES),
    "colour": 1 + len(COLOURS),
    "size": 1 + len(SIZES),
    "centre": 2,
    "letter": 1 + len(LETTERS),
    "row": 4,
    "column": 4,
    "ground": 1 + len(GROUND),
}
PHANTOM_HEADS = {"lung": 3, "opacity": 2, "zone": 1 + len(ZONES)}
FEW = frozenset({"centre"})
"""Heads that must say each thing once: there what is there and what is not count alike, patch by patch."""

NAMELESS = -100
"""The class of what stands there but has no name: nothing is learnt of it."""

Truth = dict[str, torch.Tensor]


def _thirds(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(GRID, GRID) third of the picture's height, and of its width, that each patch lies in, from 1; 0 is padding."""
    at = (np.arange(canvas.GRID) + 0.5) / canvas.GRID - 0.5
    thirds = [np.floor(3 * (at * max(size) / length + 0.5)) + 1 for length in size]
    columns, rows = (np.where((third >= 1) & (third <= 3), third, 0).astype(np.int64) for third in thirds)
    inside = (rows[:, None] > 0) & (columns > 0)
    return np.where(inside, rows[:, None], 0), np.where(inside, columns, 0)


def scene_truth(scene: Scene) -> Truth:
    """(GRID * GRID,) class per head of SCENE_HEADS; 0 is "nothing here", NAMELESS what has no class.

    An item's patches say the same of it, wherever in it they lie: also its third of the picture.
    """
    shares = canvas.patch_shares(scene.index)
    truth = {name: np.zeros((canvas.GRID, canvas.GRID), np.int64) for name in SCENE_HEADS}
    truth["row"], truth["column"] = _thirds(scene.image.size)
    truth["ground"][truth["row"] > 0] = 1 + GROUND.index(scene.background)
    cells = View(scene).cells
    for number, item in enumerate(scene.items, 1):
        here = shares[:, :, number] >= LEAST_SHARE
        if centre := canvas.centre_patch(shares, number):
            here[centre] = True
            truth["centre"][centre] = 1
        truth["kind"][here] = 1 + SHAPES.index(item.kind) if item.kind else NAMELESS
        truth["colour"][here] = 1 + list(COLOURS).index(item.colour) if item.colour else NAMELESS
        truth["size"][here] = 1 + SIZES.index(item.size)
        if cell := cells[number - 1]:
            row, column = divmod(CELLS.index(cell), 3)
            truth["row"][here], truth["column"][here] = row + 1, column + 1
    for number, letter in enumerate(scene.lettering.text if scene.lettering else "", 101):
        truth["letter"][shares[:, :, number] >= 0.25] = 1 + LETTERS.index(letter)
    return {name: torch.from_numpy(values.ravel()) for name, values in truth.items()}


def phantom_truth(phantom: Phantom) -> Truth:
    """(GRID * GRID,) class per head of PHANTOM_HEADS."""
    shares = canvas.patch_shares(phantom.index)
    opacity = shares[:, :, 3] >= LEAST_SHARE
    if phantom.opacity and (centre := canvas.centre_patch(shares, 3)):
        opacity[centre] = True
    lung = np.where(shares[:, :, 1] >= 0.4, 1, np.where(shares[:, :, 2] >= 0.4, 2, 0))
    zone = np.where(opacity, 1 + ZONES.index(phantom.opacity.zone), 0) if phantom.opacity else np.zeros_like(lung)
    truth = {"lung": lung, "opacity": opacity, "zone": zone}
    return {name: torch.from_numpy(values.astype(np.int64).ravel()) for name, values in truth.items()}


def stacked(truths: Sequence[Truth]) -> Truth:
    return {name: torch.stack([truth[name] for truth in truths]) for name in truths[0]}


def losses(logits: Mapping[str, torch.Tensor], truth: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cross-entropy per head for (n, patches, classes) logits and (n, patches) classes.

    Most patches are empty: what is there and what is not are averaged apart, or emptiness is all that is learnt.
    """
    result = {}
    for name, said in logits.items():
        wanted = truth[name].flatten()
        each = F.cross_entropy(said.float().flatten(0, 1), wanted, ignore_index=NAMELESS, reduction="none")
        there, empty = wanted > 0, wanted == 0
        if name in FEW:
            result[name] = each.sum() / there.sum().clamp(min=1)
        else:
            result[name] = 0.5 * each[empty].mean() + 0.5 * (each[there].mean() if there.any() else each.new_zeros(()))
    return result
