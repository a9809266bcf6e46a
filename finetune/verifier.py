"""Train the verifier of searches on drawn pairs: `python -m finetune.verifier --out runs/verifier`.

Knows pairs and one recipe. Does not know how they are drawn or what is searched.

Pairs are drawn once, on every core, and kept in OUT; the same command after a kill goes on. Of ten drawings one is kept aside
for the numbers that are printed last. `--install` copies the weights to where the search takes them from.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch.nn import functional
from tqdm import tqdm

from finetune.asking import guarded, positive
from finetune.exchange import Random
from finetune.jsonl import claim, write_config
from finetune.pairs import Pair, draw_hunted, draw_laid
from finetune.progress import Progress
from finetune.records import RecordError
from finetune.samples import publish
from vision.verifier import FOLDER, SIDE, Verifier

log = logging.getLogger(__name__)
KINDS: dict[str, Callable[[Random], list[Pair]]] = {"laid": draw_laid, "hunted": draw_hunted}
CHUNK, HELD_OUT, KEEP_EVERY = 50, 10, 200


@dataclass(frozen=True)
class Recipe:
    """So many drawings of pairs laid by the truth, and by the matcher; steps, pairs in each, the highest rate, and a seed."""

    laid: int = 6000
    hunted: int = 900
    steps: int = 4000
    batch: int = 48
    rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Drawn:
    """(n, SIDE, SIDE, 3) uint8 references and places, which show the same thing, and the number of each one's drawing."""

    references: NDArray[np.uint8]
    places: NDArray[np.uint8]
    same: NDArray[np.bool_]
    drawing: NDArray[np.int64]

    def part(self, chosen: NDArray[np.bool_]) -> "Drawn":
        return Drawn(self.references[chosen], self.places[chosen], self.same[chosen], self.drawing[chosen])


def draw(out: Path, recipe: Recipe) -> dict[str, Drawn]:
    """The pairs of each kind, drawn anew where `out` does not hold them yet."""
    folder = out / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(kind, first) for kind in KINDS for first in range(0, getattr(recipe, kind), CHUNK)]
    files = [folder / f"{kind}-{first}.npz" for kind, first in wanted]
    jobs = [(file, *which, recipe) for file, which in zip(files, wanted, strict=True) if not file.exists()]
    cores = os.cpu_count() or 1
    if len(jobs) <= cores:  # a pool takes longer to start than so few take to draw
        for job in jobs:
            _draw_chunk(*job)
    else:
        with ProcessPoolExecutor(cores, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            list(tqdm(pool.map(_draw_chunk, *zip(*jobs, strict=True)), "drawing", len(jobs), disable=None))
    found = {}
    for kind in KINDS:
        parts = [np.load(file) for file, which in zip(files, wanted, strict=True) if which[0] == kind]
        found[kind] = Drawn(*(np.concatenate([part[name] for part in parts]) for name in Drawn.__annotations__))
    return found


def _draw_chunk(file: Path, kind: str, first: int, recipe: Recipe) -> None:
    drawn: list[tuple[Pair, int]] = []
    for number in range(first, min(first + CHUNK, getattr(recipe, kind))):
        rng = np.random.default_rng([recipe.seed, list(KINDS).index(kind), number])
        drawn += [(pair, number) for pair in KINDS[kind](rng)]
    shape = (len(drawn), SIDE, SIDE, 3)
    arrays = [np.array([np.asarray(pair[i]) for pair, _ in drawn], np.uint8).reshape(shape) for i in range(2)]
    new = file.with_suffix(".new.npz")
    np.savez(new, references=arrays[0], places=arrays[1], same=[p[2] for p, _ in drawn], drawing=[n for _, n in drawn])
    new.replace(file)


class Training:
    """A verifier taught on pairs: half of each batch right ones, a quarter wrong ones, as many of them hunted as laid, and a
    quarter of references over other right places, which lie in the middle too.

    AdamW, one cycle of the rate (Smith and Topin 2017), bf16, channels last. Seed and step decide every random number.
    """

    def __init__(self, drawn: dict[str, Drawn], recipe: Recipe, out: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.out, self.model = recipe, out, Verifier()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        cast(Any, self.model).to(self.device, memory_format=torch.channels_last)
        both = list(drawn.values())
        self.pixels = [
            torch.from_numpy(np.concatenate([getattr(one, name) for one in both])) for name in ("references", "places")
        ]
        same = np.concatenate([one.same for one in both])
        source = np.concatenate([np.full(len(one.same), number) for number, one in enumerate(both)])
        self.right = torch.from_numpy(np.flatnonzero(same))
        self.wrong = [torch.from_numpy(np.flatnonzero(~same & (source == number))) for number in range(len(both))]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), recipe.rate, weight_decay=0.02)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1
        )

    def run(self) -> Verifier:
        progress = Progress(self.out / "state.pt", self.model, self.optimizer, self.schedule)
        done, steps, smooth = progress.restore(), self.recipe.steps, 0.7
        self.model.train()
        for step in tqdm(range(done, steps), "learning", steps, initial=done, disable=None):
            torch.manual_seed(self.recipe.seed * 1_000_000 + step)
            loss = self._loss()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            smooth = 0.98 * smooth + 0.02 * loss.item()
            if (step + 1) % KEEP_EVERY == 0 or step + 1 == steps:
                progress.save(step + 1)
                log.info("step %d: loss %.3f", step + 1, smooth)
        return self.model.eval()

    def _loss(self) -> torch.Tensor:
        quarter = self.recipe.batch // 4
        right = self._some(self.right, 2 * quarter)
        wrong = torch.cat([self._some(each, quarter // len(self.wrong)) for each in self.wrong])
        one, other = self._some(self.right, quarter), self._some(self.right, quarter)
        references = self.pixels[0][torch.cat([right, wrong, one])]
        places = self.pixels[1][torch.cat([right, wrong, other])]
        truth = torch.cat([torch.ones(len(right)), torch.zeros(len(wrong)), (one == other).float()])
        with torch.autocast(self.device.type, torch.bfloat16):
            said = self.model(*(each.to(self.device, memory_format=torch.channels_last) for each in varied(references, places)))
        return functional.binary_cross_entropy_with_logits(said.float(), truth.to(self.device))

    def _some(self, among: torch.Tensor, count: int) -> torch.Tensor:
        return among[torch.randint(len(among), (count,))]


def varied(references: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, h, w, 3) uint8 -> (n, 3, h, w) float32: both mirrored and turned by right angles alike; each in other colours, some
    covered from one side, grainy; and the places moved by up to two pixels.
    """
    pair = [each.permute(0, 3, 1, 2).float() / 255 for each in (references, places)]
    quarters, is_mirrored = int(torch.randint(4, ())), bool(torch.rand(()) < 0.5)
    pair = [torch.rot90(each, quarters, (2, 3)) for each in pair]
    pair = [each.flip(3) if is_mirrored else each for each in pair]
    pair = [_covered(_recoloured(each)) for each in pair]
    pair = [each + torch.randn_like(each) * 0.02 * torch.rand(()) for each in pair]
    down, right = torch.randint(-2, 3, (2,)).tolist()
    return pair[0], torch.roll(pair[1], (down, right), (2, 3))


def _recoloured(pictures: torch.Tensor) -> torch.Tensor:
    count = len(pictures)
    mixing = torch.eye(3) + 0.35 * torch.randn(count, 3, 3)
    mixing *= 1 - 2 * (torch.rand(count, 1, 1) < 0.3).float()
    strength = torch.empty(count, 1, 1, 1).uniform_(0.5, 1.5)
    return torch.einsum("nij,njhw->nihw", mixing, pictures - 0.5) * strength


def _covered(pictures: torch.Tensor, share: float = 0.1) -> torch.Tensor:
    covered = pictures.clone()
    for number in torch.nonzero(torch.rand(len(pictures)) < share)[:, 0].tolist():
        width, quarters = int(torch.randint(SIDE // 6, SIDE // 2, ())), int(torch.randint(4, ()))
        turned = torch.rot90(covered[number], quarters, (1, 2))
        turned[:, :width] = 0.4 * torch.randn(3, 1, 1)
    return covered


@torch.inference_mode()
def grade(model: Verifier, drawn: Drawn) -> dict[str, float]:
    """The area under the ROC curve, and the share of right pairs that stand above all but 2 % of the wrong ones."""
    model.cpu()
    said = []
    for start in range(0, len(drawn.same), 64):
        both = (
            torch.from_numpy(each[start : start + 64]).permute(0, 3, 1, 2) / 255 for each in (drawn.references, drawn.places)
        )
        said.append(model(*both).numpy())
    odds = np.concatenate(said)
    right, wrong = odds[drawn.same], odds[~drawn.same]
    above = float((right > np.quantile(wrong, 0.98)).mean())
    return {"pairs": len(odds), "auc": round(float(roc_auc_score(drawn.same, odds)), 4), "right_at_2_%": round(above, 3)}


def run(out: Path, recipe: Recipe, install: Path | None) -> dict[str, Any]:
    with claim(out / "verifier"):
        write_config(out / "verifier", asdict(recipe))
        drawn = draw(out, recipe)
        is_aside = {kind: each.drawing % HELD_OUT == 0 for kind, each in drawn.items()}
        taught, aside = ({kind: each.part(is_aside[kind] == kept) for kind, each in drawn.items()} for kept in (False, True))
        if any(len(np.unique(each.same)) < 2 for each in (*taught.values(), *aside.values())):
            raise RecordError(
                "These are too few drawings to teach from and to measure on. Ask for more with --laid and --hunted."
            )
        model = Training(taught, recipe, out).run()
        found = {kind: grade(model, each) for kind, each in aside.items()}
        for folder in filter(None, (out, install)):
            folder.mkdir(parents=True, exist_ok=True)
            publish(model, folder)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.verifier", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = Recipe()
    parser.add_argument("--out", type=Path, default=Path("runs/verifier"))
    parser.add_argument(
        "--install", type=Path, nargs="?", const=FOLDER, help="a folder for the weights too (models/patch-verifier)"
    )
    for name in ("laid", "hunted", "steps", "batch"):
        parser.add_argument(f"--{name}", type=positive, default=getattr(usual, name))
    parser.add_argument("--rate", type=float, default=usual.rate)
    parser.add_argument("--seed", type=int, default=usual.seed)
    given = vars(parser.parse_args(arguments))
    out, install = given.pop("out"), given.pop("install")
    return guarded(lambda: print(json.dumps(run(out, Recipe(**given), install), indent=1)))


if __name__ == "__main__":
    sys.exit(main())
