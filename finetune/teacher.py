"""The teacher: a ResNet34 trained from scratch on the films, whose eyes the embedded tower learns from.

Knows films and one classifier. Does not know language. Distilling a small ViT from it gives a far better
tower on 4,000 films than training the ViT on their labels (Touvron et al. 2021, "Training data-efficient
image transformers & distillation through attention").
"""

import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification

from finetune import metrics
from finetune.films import LABELS, Film, augment, load_pixels
from finetune.progress import Progress

log = logging.getLogger(__name__)
SIDE = 160


def build() -> nn.Module:
    config = ResNetConfig(num_channels=1, layer_type="basic", depths=[3, 4, 6, 3], hidden_sizes=[64, 128, 256, 512])
    config.num_labels = len(LABELS)
    model: nn.Module = ResNetForImageClassification(config)
    return model


def normalise(grey: torch.Tensor) -> torch.Tensor:
    """(n, 1, h, w) in [0, 1] -> the teacher's input, channels last."""
    return ((grey - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve; NaN when only one class is there."""
    found = metrics.auc(scores, positive)
    return float("nan") if found is None else found


@torch.inference_mode()
def pneumonia_probability(model: nn.Module, pixels: torch.Tensor) -> np.ndarray:
    """(n,) probability of pneumonia for (n, h, w) uint8 films, averaged with the mirrored film."""
    model.eval()
    out = []
    for batch in pixels.split(64):
        grey = F.interpolate(batch[:, None].float() / 255, (SIDE, SIDE), mode="bilinear", antialias=True)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(normalise(grey)).logits + model(normalise(grey.flip(-1))).logits
        out.append(1 - (logits.float() / 2).softmax(-1)[:, 0].numpy())
    return np.concatenate(out)


def train(films: list[Film], out: Path, epochs: int, seed: int) -> nn.Module:
    """Train on the `train` part, log the `val` part, save weights to `out` after each epoch and resume from there."""
    torch.manual_seed(seed)
    model = build()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs leave it out
    parts = {split: [f for f in films if f.split == split] for split in ("train", "val")}
    pixels = {split: load_pixels(part) for split, part in parts.items()}
    labels = torch.tensor([f.label for f in parts["train"]])
    weight = (1 / torch.bincount(labels).float())[labels]
    sick = np.array([f.label > 0 for f in parts["val"]])
    batch = 32
    steps = epochs * (len(labels) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.2)
    progress = Progress(out / "teacher.pt", model, optimizer, schedule)
    for epoch in range(progress.restore(), epochs):
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        drawn = torch.multinomial(weight, len(labels), replacement=True, generator=generator)
        model.train()
        total = 0.0
        for index in drawn.split(batch)[: len(labels) // batch]:
            grey, _ = augment(pixels["train"][index], SIDE, generator)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(normalise(grey)).logits
            loss = F.cross_entropy(logits.float(), labels[index], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        scores = pneumonia_probability(model, pixels["val"])
        log.info(
            "teacher epoch %d loss %.3f val auc %.4f (%.0f s)",
            epoch + 1,
            total / (len(labels) // batch),
            auc(scores, sick),
            time.perf_counter() - started,
        )
        progress.save(epoch + 1)
    model.eval()
    return model
