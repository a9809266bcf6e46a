"""The tower: the embedded model's eyes, trained before it has words.

Knows films, scenes, phantoms and patches. Does not know language. Each patch learns to say what is on it: on films
what the teacher sees there, on scenes kind, colour, size and letters, on phantoms lungs and opacities. A language model
can then read from the patches what it is asked, instead of learning to see through words.

The tower is transformers' hybrid ViT (Dosovitskiy et al. 2021; Ranftl et al. 2021): a small ResNet, then attention. A
plain ViT of the same size learns films as well, but hardly tells one shape from another in the same number of pictures.
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
from transformers import DPTConfig, DPTModel, ResNetConfig

from finetune import canvas, teacher
from finetune.films import Film, augment, load_pixels
from finetune.patches import PHANTOM_HEADS, SCENE_HEADS, Truth, losses, phantom_truth, scene_truth, stacked
from finetune.phantom import draw_phantom
from finetune.progress import Progress
from finetune.scenes import draw_crowd, draw_scene

log = logging.getLogger(__name__)
SAVE_EVERY = 100
WIDTH = 256
CROWDS = 0.6
"""The share of crowds among the scenes that are learnt from."""
LOOSE = 0.5
"""The share of the other scenes that are taken apart."""


def vision_config() -> DPTConfig:
    """A ResNet of 32 to 256 channels, then four layers of attention over GRID * GRID patches and a class token."""
    stem = ResNetConfig(  # type: ignore[call-arg]  # `out_features` is every backbone's
        embedding_size=32, hidden_sizes=[32, 64, 128, WIDTH], depths=[2, 2, 2, 2], layer_type="basic",
        out_features=["stage1", "stage2", "stage4"],
    )  # fmt: skip
    return DPTConfig(
        is_hybrid=True,
        backbone_config=stem,
        backbone_featmap_shape=[1, WIDTH, canvas.GRID, canvas.GRID],
        backbone_out_indices=[0, 1, 2, 3],
        neck_ignore_stages=[0, 1],
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=canvas.SIDE,
        patch_size=canvas.SIDE // canvas.GRID,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


class Tower(nn.Module):
    """The vision tower with one linear head per thing a patch can say."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = DPTModel(vision_config(), add_pooling_layer=False)
        self.norm = nn.LayerNorm(WIDTH)
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, size) for name, size in {**SCENE_HEADS, **PHANTOM_HEADS}.items()})
        self.to_teacher = nn.Linear(WIDTH, 512)
        self.diagnosis = nn.Linear(WIDTH, 3)

    def named_heads(self) -> dict[str, nn.Linear]:
        """Every head that tells classes apart."""
        return {
            name: head for name, head in (*self.heads.items(), ("diagnosis", self.diagnosis)) if isinstance(head, nn.Linear)
        }

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(n, 3, SIDE, SIDE) -> (n, GRID * GRID, WIDTH): the last layer's patches, the class token dropped."""
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        hidden = self.vision(pixel_values=pixel_values, output_hidden_states=True).hidden_states
        patches: torch.Tensor = self.norm(hidden[-1][:, 1:])
        return patches


@dataclass(frozen=True)
class Batch:
    """Films first, then scenes, then phantoms; `teacher_input` is (films, 1, side, side) in [0, 1]."""

    pixel_values: torch.Tensor
    teacher_input: torch.Tensor
    labels: torch.Tensor
    scenes: Truth
    phantoms: Truth


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
        count = sizes[0] if len(films) else 0
        index = torch.multinomial(weight, count, generator=generator) if count else torch.zeros(0, dtype=torch.long)
        grey, inside = (
            torch.zeros(0, 1, canvas.SIDE, canvas.SIDE),
            torch.zeros(0, 1, canvas.SIDE, canvas.SIDE, dtype=torch.bool),
        )
        if count:
            grey, inside = augment(films[index], canvas.SIDE, generator)
        scenes = [draw_crowd(rng) if rng.random() < CROWDS else draw_scene(rng, apart=LOOSE) for _ in range(sizes[1])]
        phantoms = [draw_phantom(rng) for _ in range(sizes[2])]
        drawn = torch.stack([canvas.pixels(image) for image in [*(s.image for s in scenes), *(p.image for p in phantoms)]])
        values = canvas.normalise(torch.cat([colour_films(grey, inside, generator), drawn]))
        small = F.interpolate(grey, (teacher.SIDE, teacher.SIDE), mode="bilinear", antialias=True) if count else grey
        truths = stacked([scene_truth(scene) for scene in scenes]), stacked([phantom_truth(phantom) for phantom in phantoms])
        yield Batch(values, small, labels[index], *truths)


def _apart(said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """1 - cosine between (n, patches, d) features, on average."""
    return (1 - F.cosine_similarity(said.float(), wanted.float(), dim=-1)).mean()


def _loss(tower: Tower, guide: nn.Module | None, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    n, m = len(batch.labels), len(batch.labels) + len(batch.scenes["kind"])
    with torch.autocast("cpu", torch.bfloat16):
        patches = tower(batch.pixel_values)
        films, scenes, phantoms = patches[:n], patches[n:m], patches[m:]
        parts = {
            **losses({name: tower.heads[name](scenes) for name in SCENE_HEADS}, batch.scenes),
            **losses({name: tower.heads[name](phantoms) for name in PHANTOM_HEADS}, batch.phantoms),
        }
        if guide is not None:
            with torch.no_grad():
                seen = guide(teacher.normalise(batch.teacher_input), output_hidden_states=True)
            coarse = seen.hidden_states[-1].float()
            felt = F.interpolate(coarse, (canvas.GRID, canvas.GRID), mode="bilinear").flatten(2).transpose(1, 2)
            parts["teacher"] = 2 * _apart(tower.to_teacher(films), felt)
            said = tower.diagnosis(films.mean(1)).float()
    if guide is not None:
        soft = 0.5 * seen.logits.float().softmax(-1) + 0.5 * F.one_hot(batch.labels, 3)
        parts["diagnosis"] = -(soft * said.log_softmax(-1)).sum(-1).mean()
    return torch.stack(list(parts.values())).sum(), {name: value.item() for name, value in parts.items()}


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
    films: list[Film], guide: nn.Module | None, out: Path, steps: int, seed: int, sizes: tuple[int, int, int] = (8, 22, 5)
) -> Tower:
    """Train for `steps` batches of (films, scenes, phantoms); the state in `out` is saved often and resumed from.

    Without films there is no `guide`, and pictures are drawn alone.
    """
    torch.manual_seed(seed)
    tower = Tower()
    parts = {split: [f for f in films if f.split == split] for split in ("train", "val")}
    pixels = {split: load_pixels(part) for split, part in parts.items()}
    labels = torch.tensor([f.label for f in parts["train"]], dtype=torch.long)
    sick = np.array([f.label > 0 for f in parts["val"]])
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.15)
    progress = Progress(out / "tower.pt", tower, optimizer, schedule)
    first = progress.restore()
    started = time.perf_counter()
    for step, batch in enumerate(batches(pixels["train"], labels, seed, first, steps, sizes), first + 1):
        loss, parts_of_loss = _loss(tower, guide, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            told = " ".join(f"{name} {value:.3f}" for name, value in parts_of_loss.items())
            pace = (time.perf_counter() - started) / (step - first)
            log.info("tower %d/%d loss %.3f %s (%.2f s a step)", step, steps, loss.item(), told, pace)
        if step % SAVE_EVERY == 0 or step == steps:
            if len(sick):
                log.info("tower %d val auc %.4f", step, _auc(tower, pixels["val"], sick))
            progress.save(step)
    return tower.eval()
