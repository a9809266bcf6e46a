"""The tower: the embedded model's eyes, trained before it has words.

Knows films, scenes, phantoms and patches. Does not know language. Each patch learns to say what is on it:
the teacher's feature map on films, kind, colour, size and letters on scenes, lungs and opacities on phantoms.
A language model can then read from the patches what it is asked, instead of learning to see through words.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from finetune import canvas, teacher
from finetune.films import Film, augment, load_pixels
from finetune.phantom import Phantom, draw_phantom
from finetune.progress import Progress
from finetune.scenes import COLOURS, LETTERS, SHAPES, SIZES, Scene, draw_crowd, draw_scene

log = logging.getLogger(__name__)
SAVE_EVERY = 250
CROWDS = 0.75
LEAST_SHARE = 0.12
"""A patch is labelled with what covers at least this share of it."""

HEADS = {"kind": 1 + len(SHAPES), "colour": 1 + len(COLOURS), "size": 1 + len(SIZES), "centre": 2, "letter": 1 + len(LETTERS),
         "lung": 3, "opacity": 2}  # fmt: skip


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=4, image_size=canvas.SIDE,
        patch_size=canvas.PATCH, projection_dim=256, attention_dropout=0.0,
    )  # fmt: skip


class Tower(nn.Module):
    """A CLIP vision model with one linear head per thing a patch can say."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = CLIPVisionModel(vision_config())
        width = self.vision.config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in HEADS.items()})
        self.to_teacher = nn.Linear(width, 512)
        self.diagnosis = nn.Linear(width, 3)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(n, 3, SIDE, SIDE) -> (n, GRID * GRID, width): the last layer's patches, the class token dropped."""
        hidden = self.vision(pixel_values=pixel_values, output_hidden_states=True).hidden_states
        patches: torch.Tensor = self.norm(hidden[-1][:, 1:])
        return patches


def scene_truth(scene: Scene) -> dict[str, torch.Tensor]:
    """(GRID * GRID,) class per head for a scene; 0 is "nothing here"."""
    shares = canvas.patch_shares(scene.index)
    truth = {name: np.zeros((canvas.GRID, canvas.GRID), np.int64) for name in ("kind", "colour", "size", "centre", "letter")}
    for number, item in enumerate(scene.items, 1):
        here = shares[:, :, number] >= LEAST_SHARE
        centre = canvas.centre_patch(shares, number)
        if centre:
            here[centre] = True
            truth["centre"][centre] = 1
        truth["kind"][here] = 1 + SHAPES.index(item.kind)
        truth["colour"][here] = 1 + list(COLOURS).index(item.colour)
        truth["size"][here] = 1 + SIZES.index(item.size)
    for number, letter in enumerate(scene.lettering.text if scene.lettering else "", 101):
        truth["letter"][shares[:, :, number] >= 0.25] = 1 + LETTERS.index(letter)
    return {name: torch.from_numpy(values.ravel()) for name, values in truth.items()}


def phantom_truth(phantom: Phantom) -> dict[str, torch.Tensor]:
    """(GRID * GRID,) class per head for a phantom."""
    shares = canvas.patch_shares(phantom.index)
    opacity = shares[:, :, 3] >= LEAST_SHARE
    if phantom.opacity and (centre := canvas.centre_patch(shares, 3)):
        opacity[centre] = True
    lung = np.where(shares[:, :, 1] >= 0.4, 1, np.where(shares[:, :, 2] >= 0.4, 2, 0))
    return {"opacity": torch.from_numpy(opacity.astype(np.int64).ravel()), "lung": torch.from_numpy(lung.ravel())}


@dataclass(frozen=True)
class Batch:
    """Films first, then scenes, then phantoms; `teacher_input` is (films, 1, side, side) in [0, 1]."""

    pixel_values: torch.Tensor
    teacher_input: torch.Tensor
    labels: torch.Tensor
    scenes: dict[str, torch.Tensor]
    phantoms: dict[str, torch.Tensor]


def colour_films(grey: torch.Tensor, inside: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(n, 1, h, w) -> (n, 3, h, w); half the films get the serving processor's padding colour."""
    mean = torch.tensor(canvas.MEAN_COLOUR).view(1, 3, 1, 1) / 255
    served = torch.rand(len(grey), generator=generator).view(-1, 1, 1, 1) < 0.5
    return torch.where(inside | ~served, grey.expand(-1, 3, -1, -1), mean)


def batches(
    films: torch.Tensor, labels: torch.Tensor, seed: int, first: int, steps: int, sizes: tuple[int, int, int]
) -> Iterator[Batch]:
    """Batches `first` to `steps`, each drawn from its own seed, so that a resumed run sees what an unbroken one would."""
    weight = (1 / torch.bincount(labels).float())[labels] * torch.tensor([2.0, 1.0, 1.0])[labels]
    for step in range(first, steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rng = np.random.default_rng([seed, step])
        index = torch.multinomial(weight, sizes[0], generator=generator)
        grey, inside = augment(films[index], canvas.SIDE, generator)
        scenes = [(draw_crowd if rng.random() < CROWDS else draw_scene)(rng) for _ in range(sizes[1])]
        phantoms = [draw_phantom(rng) for _ in range(sizes[2])]
        drawn = torch.stack([canvas.pixels(picture.image) for picture in [*scenes, *phantoms]])
        values = canvas.normalise(torch.cat([colour_films(grey, inside, generator), drawn]))
        small = F.interpolate(grey, (teacher.SIDE, teacher.SIDE), mode="bilinear", antialias=True)
        truths = [scene_truth(scene) for scene in scenes], [phantom_truth(phantom) for phantom in phantoms]
        stacked = [{name: torch.stack([truth[name] for truth in part]) for name in part[0]} for part in truths]
        yield Batch(values, small, labels[index], stacked[0], stacked[1])


def _loss(tower: Tower, guide: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    n, m = len(batch.labels), len(batch.labels) + len(batch.scenes["kind"])
    with torch.autocast("cpu", torch.bfloat16):
        patches = tower(batch.pixel_values)
        with torch.no_grad():
            seen = guide(teacher.normalise(batch.teacher_input), output_hidden_states=True)
        target = (
            F.interpolate(seen.hidden_states[-1].float(), (canvas.GRID, canvas.GRID), mode="bilinear")
            .flatten(2)
            .transpose(1, 2)
        )
        mapped = tower.to_teacher(patches[:n]).float()
        said = tower.diagnosis(patches[:n].mean(1)).float()
        heads = {name: tower.heads[name](patches[n:m] if name in batch.scenes else patches[m:]).float() for name in HEADS}
    soft = 0.5 * seen.logits.float().softmax(-1) + 0.5 * F.one_hot(batch.labels, 3)
    parts = {
        "feature": 2 * (1 - F.cosine_similarity(mapped, target, dim=-1)).mean(),
        "diagnosis": -(soft * said.log_softmax(-1)).sum(-1).mean(),
    }
    for name, logits in heads.items():
        truth = {**batch.scenes, **batch.phantoms}[name]
        each = F.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none")
        there = truth.flatten() > 0
        # Most patches are empty: what is there and what is not are averaged apart, or emptiness is all that is learnt.
        parts[name] = 0.5 * each[~there].mean() + 0.5 * (each[there].mean() if there.any() else 0)
    return sum(parts.values(), torch.zeros(())), {name: value.item() for name, value in parts.items()}


@torch.inference_mode()
def _auc(tower: Tower, films: torch.Tensor, sick: np.ndarray) -> float:
    tower.eval()
    out = []
    for part in films.split(32):
        big = (
            F.interpolate(part[:, None].float() / 255, (canvas.SIDE, canvas.SIDE), mode="bicubic")
            .clamp(0, 1)
            .expand(-1, 3, -1, -1)
        )
        with torch.autocast("cpu", torch.bfloat16):
            out.append(tower.diagnosis(tower(canvas.normalise(big)).mean(1)).float().softmax(-1)[:, 0])
    tower.train()
    return teacher.auc(1 - torch.cat(out).numpy(), sick)


def train(
    films: list[Film], guide: nn.Module, out: Path, steps: int, seed: int, sizes: tuple[int, int, int] = (10, 20, 3)
) -> Tower:
    """Train for `steps` batches of (films, scenes, phantoms); the state in `out` is saved often and resumed from."""
    torch.manual_seed(seed)
    tower = Tower()
    parts = {split: [f for f in films if f.split == split] for split in ("train", "val")}
    pixels = {split: load_pixels(part) for split, part in parts.items()}
    labels = torch.tensor([f.label for f in parts["train"]])
    sick = np.array([f.label > 0 for f in parts["val"]])
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.06)
    progress = Progress(out / "tower.pt", tower, optimizer, schedule)
    first = progress.restore()
    started = time.perf_counter()
    for step, batch in enumerate(batches(pixels["train"], labels, seed, first, steps, sizes), first + 1):
        loss, parts_of_loss = _loss(tower, guide, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            told = " ".join(f"{name} {value:.3f}" for name, value in parts_of_loss.items())
            log.info(
                "tower %d/%d loss %.3f %s (%.2f s a step)",
                step,
                steps,
                loss.item(),
                told,
                (time.perf_counter() - started) / (step - first),
            )
        if step % SAVE_EVERY == 0 or step == steps:
            log.info("tower %d val auc %.4f", step, _auc(tower, pixels["val"], sick))
            progress.save(step)
    return tower.eval()
