"""Fitting: one classifier trained on one part of the films, stopped and calibrated by another.

Knows tensors, one recipe and the transform that serves. Does not know folders, folds or commands.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from finetune.calibrate import calibrate
from finetune.films import Film, augment, load_pixels, occlude
from finetune.metrics import auc
from finetune.progress import run_epochs
from finetune.samples import Sample
from vision.resnet import Classifier, squash

log = logging.getLogger(__name__)
POSITIVE = "PNEUMONIA"
MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class Recipe:
    """How to train: `size` pixels a side, `epochs` at most, stopping `patience` epochs after the best."""

    size: int = 160
    epochs: int = 24
    batch: int = 32
    rate: float = 2e-3
    patience: int = 10
    seed: int = 0


def predict(classifier: Classifier, samples: Sequence[Sample] | Sequence[Film], mirrored: bool) -> NDArray[np.float32]:
    """(n, k) logits of the files, through the very transform that serves."""
    batches = (samples[start : start + 32] for start in range(0, len(samples), 32))
    return np.concatenate([classifier.logits([Image.open(s.path).convert("RGB") for s in b], mirrored) for b in batches])


def indices(samples: Sequence[Sample], labels: Sequence[str]) -> NDArray[np.intp]:
    return np.array([labels.index(s.label) for s in samples], np.intp)


def positive_of(labels: Sequence[str]) -> str:
    """The label that metrics call positive: PNEUMONIA where it exists, else the last one."""
    return POSITIVE if POSITIVE in labels else labels[-1]


class Fit:
    """A training of `model` on `parts["train"]`, stopped by `parts["val"]` and calibrated on it.

    Cross-entropy with class weights and label smoothing, AdamW and one cycle, bf16, channels last; every film cropped,
    stretched, padded, turned, re-toned and covered anew each time. What is kept is the exponential moving average of the
    weights (the best epoch's on the validation part). Seed and epoch decide every random number, and `out` holds all that
    is needed to go on after a kill to the same end.
    """

    def __init__(
        self, parts: dict[str, list[Sample]], labels: tuple[str, ...], recipe: Recipe, out: Path, model: nn.Module
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.parts, self.labels, self.recipe, self.out = parts, labels, recipe, out
        self.model = model.to(self.device)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=True)
        self.transform = squash(recipe.size, MEAN, STD)
        self.grey = load_pixels(parts["train"], max(224, recipe.size))
        self.truth = torch.from_numpy(indices(parts["train"], labels))
        counts = torch.bincount(self.truth, minlength=len(labels))
        self.weight = (len(self.truth) / len(labels) / counts.clamp(min=1)).float().to(self.device)
        self.batch = min(recipe.batch, len(self.truth))
        self.steps = len(self.truth) // self.batch
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.rate, weight_decay=0.05)
        total = recipe.epochs * self.steps
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, recipe.rate, total_steps=total, pct_start=0.2)

    def run(self) -> Classifier:
        """The best epoch's classifier, calibrated."""
        recipe, learnt = self.recipe, (self.model, self.optimizer, self.schedule)
        run_epochs(self._epoch, recipe.epochs, recipe.patience, self.out, self.average, *learnt, measure="AUC", log=log)
        kept, films = self._kept(), self.parts["val"]
        found = calibrate(predict(kept, films, True), indices(films, self.labels), self.labels, positive_of(self.labels))
        return Classifier(kept.model, self.transform, found)

    def _epoch(self, epoch: int) -> tuple[float, float]:
        return self._learn(epoch), self._validate()

    def _learn(self, epoch: int) -> float:
        """One epoch; its mean loss."""
        recipe, seed = self.recipe, self.recipe.seed * 1000 + epoch
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.model.train()
        total = 0.0
        order = torch.randperm(len(self.truth), generator=generator)[: self.steps * self.batch].split(self.batch)
        for index in tqdm(order, desc=f"epoch {epoch + 1}/{recipe.epochs}", disable=None, leave=False):
            films, _ = augment(self.grey[index], recipe.size, generator)
            films = (occlude(films, generator).to(self.device) - MEAN) / STD
            pixels = films.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, torch.bfloat16):
                logits = self.model(pixel_values=pixels).logits
            loss = F.cross_entropy(logits.float(), self.truth[index].to(self.device), self.weight, label_smoothing=0.05)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.average.update_parameters(self.model)
            total += loss.item()
        return total / self.steps

    def _kept(self) -> Classifier:
        return Classifier(self.average.module, self.transform)

    def _validate(self) -> float:
        """Mean over the labels of the one-against-the-rest AUC on the validation part."""
        logits = predict(self._kept(), self.parts["val"], False)
        truth = indices(self.parts["val"], self.labels)
        each = [auc(logits[:, k] - np.delete(logits, k, 1).max(1), truth == k) for k in range(len(self.labels))]
        return float(np.mean([value for value in each if value is not None]))
