"""Fitting a U-Net: trained on one part of the pairs, stopped by another.

Knows tensors and one recipe. Does not know folders, layouts of masks or commands.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses.dice import DiceLoss
from PIL import Image
from scipy import ndimage
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from finetune.progress import run_epochs
from finetune.records import RecordError, Split
from finetune.seg_augment import deform, windows
from finetune.seg_pairs import IGNORE, Pair
from vision.unet import MEAN, STD, Plan, Segmenter, unet

log = logging.getLogger(__name__)
DECAY = 0.99
CALMEST = 0.4


@dataclass(frozen=True)
class Recipe:
    """How to train: `size` pixels a side, `epochs` at most, stopping `patience` epochs after the best.

    With `crops` in windows of that size at the films' own scale, else on whole films, squashed. `channels` per level.
    """

    size: int = 192
    epochs: int = 300
    batch: int = 16
    rate: float = 1e-4
    patience: int = 40
    seed: int = 0
    crops: bool = False
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)

    def __post_init__(self) -> None:
        step = 2 ** (len(self.channels) - 1)
        if self.size < 2 * step or self.size % step:
            raise RecordError(
                f"A side of {self.size} pixels does not fit this U-Net. Choose a multiple of {step}, from {2 * step}."
            )


def parts_of(pairs: Sequence[Pair], classes: Sequence[str]) -> dict[Split, list[Pair]]:
    """The pairs of each part. Raises RecordError when a class is missing from what is trained on, or a part is empty."""
    parts: dict[Split, list[Pair]] = {"train": [], "val": [], "test": []}
    for pair in pairs:
        parts[pair.split].append(pair)
    seen = {int(value) for pair in parts["train"] for value in np.unique(pair.mask)}
    for value, label in enumerate(classes, start=1):
        if value not in seen:
            raise RecordError(f"No mask among the {len(parts['train'])} to train on shows {label}. Add other patients.")
    if not parts["val"]:
        raise RecordError(f"None of the {len(pairs)} pairs falls into the part that stops the training. Add other patients.")
    return parts


class Fit:
    """A training of a U-Net on `parts["train"]`, stopped by the mean Dice on `parts["val"]`.

    Soft Dice over the batch (Milletari et al. 2016) plus cross-entropy with weights from class frequency; AdamW, the rate
    halved on a plateau; bf16, channels last; every film augmented anew each time, the less the lower the rate. What is kept
    is the moving average of the weights at the best epoch. Seed and epoch decide every random number; `out` holds all that is
    needed to go on after a kill. It begins from the weights of `begun`, a segmenter of the same classes, if one is given.
    """

    def __init__(
        self,
        parts: dict[Split, list[Pair]],
        classes: tuple[str, ...],
        recipe: Recipe,
        out: Path,
        begun: Segmenter | None = None,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.parts, self.recipe, self.out = parts, recipe, out
        pieces = tuple(max(_pieces(pair, value) for pair in parts["train"]) for value in range(1, 1 + len(classes)))
        channels = begun.plan.channels if begun else recipe.channels
        self.plan = Plan(classes, recipe.size, channels, pieces, recipe.crops)
        torch.manual_seed(recipe.seed)
        self.model = unet(len(classes), channels).to(self.device)
        if begun:
            self.model.load_state_dict(begun.model.state_dict())
        self.average = AveragedModel(self.model, avg_fn=_average, use_buffers=True)
        self.arrays = [(np.array(pair.film()), pair.mask) for pair in parts["train"]] if recipe.crops else []
        self.films, self.masks = (
            (torch.empty(0), torch.empty(0)) if recipe.crops else squashed(parts["train"], recipe.size * 5 // 4)
        )
        self.weight = _weights(parts["train"], len(classes)).to(self.device)
        self.dice = DiceLoss(include_background=False, batch=True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.rate, weight_decay=0.01)
        wait = max(2, recipe.patience // 4)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, "max", factor=0.5, patience=wait)
        self.validation = None if recipe.crops else squashed(parts["val"], recipe.size)

    def run(self) -> Segmenter:
        """The best epoch's segmenter."""
        recipe, learnt = self.recipe, (self.model, self.optimizer, self.schedule)
        run_epochs(self._epoch, recipe.epochs, recipe.patience, self.out, self.average, *learnt, measure="Dice", log=log)
        return self._unweighted()

    def _epoch(self, epoch: int) -> tuple[float, float]:
        loss, value = self._learn(epoch), self._validate()
        self.schedule.step(value)
        return loss, value

    def _learn(self, epoch: int) -> float:
        """One epoch; its mean loss."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1000 + epoch)
        self.model.train()
        rate: float = self.optimizer.param_groups[0]["lr"]
        strength = max(CALMEST, (rate / self.recipe.rate) ** 0.5)
        losses = []
        order = torch.randperm(len(self.parts["train"]), generator=generator).split(self.recipe.batch)
        for index in tqdm(order, desc=f"epoch {epoch + 1}/{self.recipe.epochs}", disable=None, leave=False):
            loss = self._loss(*deform(*self._batch(index, generator), self.recipe.size, generator, strength))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.average.update_parameters(self.model)
            losses.append(loss.item())
        return float(np.mean(losses))

    def _batch(self, index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        if self.recipe.crops:
            return windows([self.arrays[i] for i in index.tolist()], self.recipe.size, generator)
        return self.films[index], self.masks[index]

    def _loss(self, films: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        pixels = ((films - MEAN) / STD).to(self.device, memory_format=torch.channels_last)
        truth = truth.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model(pixels)
        logits, is_known = cast(torch.Tensor, logits).float(), truth != IGNORE
        if not is_known.any():
            return logits.sum() * 0  # still a graph
        wanted = F.one_hot(torch.where(is_known, truth, 0), logits.shape[1]).permute(0, 3, 1, 2) * is_known[:, None]
        overlap = self.dice(logits.softmax(1) * is_known[:, None], wanted.float())
        total: torch.Tensor = overlap + F.cross_entropy(logits, truth, self.weight, ignore_index=IGNORE)
        return total

    def _kept(self) -> Segmenter:
        return Segmenter(self.average.module, self.plan)

    def _unweighted(self) -> Segmenter:
        """What is kept, the class weights taken out of its logits again (Menon et al. 2021) unless validation is worse for it.

        They teach the rare classes, and make every one of them a little too large.
        """
        weighted, shift = self._validate(), self.weight.log()
        add_to_logits(self.average.module, -shift)
        if self._validate() < weighted:
            add_to_logits(self.average.module, shift)
        return self._kept()

    @torch.inference_mode()
    def _validate(self) -> float:
        """Mean over the classes of the Dice of all validation pixels together, at the model's size."""
        kept = self._kept()
        if self.validation is None:
            each = [kept.probabilities(pair.film()).argmax(0).ravel() for pair in self.parts["val"]]
            truth = np.concatenate([pair.mask.ravel() for pair in self.parts["val"]])
            return pooled_dice(torch.from_numpy(np.concatenate(each)), torch.from_numpy(truth), len(self.plan.classes))
        films, masks = self.validation
        pixels = ((films[:, None].float() / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        said = [kept.model(batch.to(self.device)).argmax(1).cpu() for batch in pixels.split(16)]
        return pooled_dice(torch.cat(said), masks, len(self.plan.classes))


@torch.no_grad()
def add_to_logits(model: nn.Module, shift: torch.Tensor) -> None:
    """Add (1 + k,) values to what `vision.unet.unet` says, for good: its last convolution is a part of the sum it ends in."""
    last = [module for module in model.modules() if isinstance(module, nn.Conv2d)][-1]
    cast(torch.Tensor, last.bias).add_(shift)


def pooled_dice(said: torch.Tensor, truth: torch.Tensor, classes: int) -> float:
    """Mean over the classes of 2 |A and B| / (|A| + |B|), all pixels together; a class that is in neither is left out."""
    is_known = truth != IGNORE
    found = []
    for value in range(1, classes + 1):
        a, b = (said == value) & is_known, truth == value
        if total := int(a.sum() + b.sum()):
            found.append(2 * int((a & b).sum()) / total)
    return float(np.mean(found)) if found else 0.0


def squashed(pairs: Sequence[Pair], side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, side, side) uint8 grey values, and masks."""
    films = [np.asarray(pair.film().resize((side, side), Image.Resampling.BILINEAR)) for pair in pairs]
    masks = [np.asarray(Image.fromarray(pair.mask).resize((side, side), Image.Resampling.NEAREST)) for pair in pairs]
    return torch.from_numpy(np.stack(films)), torch.from_numpy(np.stack(masks))


def _average(kept: torch.Tensor, fresh: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """Exponential moving average that begins as a plain mean, so that a short training is not its random start."""
    return kept + (fresh - kept) * max(1 - DECAY, 9 / (10 + float(count)))


def _pieces(pair: Pair, value: int) -> int:
    """The components of a class in a mask, without those under a hundredth of it."""
    pieces, count = ndimage.label(pair.mask == value)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    return int((areas >= 0.01 * areas.sum()).sum())


def _weights(pairs: Sequence[Pair], classes: int) -> torch.Tensor:
    """Cross-entropy weights: the inverse square root of each class's share of the pixels, their mean 1."""
    counts = sum(np.bincount(pair.mask[pair.mask != IGNORE], minlength=classes + 1) / pair.mask.size for pair in pairs)
    weights = 1 / np.sqrt(np.maximum(np.asarray(counts, np.float64), 1e-6))
    return torch.from_numpy(weights / weights.mean()).float()
