"""LoRA: how fast a step is beside a plain peft loop, and whether a kill -9 at any moment costs a training anything.

    python -m benchmarks.lora [--model models/hilum-tiny] [--steps 12] [--kills 20] [--out FILE]

Both loops read the same micro-batches from the same first matrices, turn by turn, so that a busy machine slows both; their
losses have to agree. The plain loop is what the libraries' examples write: pixels through the tower in every step, the
model's own loss with logits for every token. What is killed are trainings of a tiny random LLaVA, whose every step is
followed by another within milliseconds. The records are drawn scenes; nobody's data is needed.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from benchmarks import machine
from finetune.batches import Share, collate
from finetune.jsonl import read_objects
from finetune.lora import Training, optimizer_of, prepare, step
from finetune.lora_base import inject, open_base
from finetune.lora_data import read_lessons
from finetune.lora_flags import Recipe
from finetune.rehearsal import draw_records
from vision.study import read_study

SEED = 96_000
ROOT = Path(__file__).parents[1]


class Plain:
    """The loop of the examples, on a base of its own."""

    def __init__(self, training: Training) -> None:
        self._recipe, self._lessons = training.recipe, training.lessons
        self.base = open_base(self._recipe.model_name_or_path, training.base.device, None)
        torch.manual_seed(self._recipe.seed)
        inject(self.base, self._recipe.lora_r, self._recipe.lora_alpha, 0.0, self._recipe.mm_projector_lr > 0)
        self._model = self.base.model.train()
        self._model.model.vision_tower.eval()  # the loops of the examples let its normalisation drift
        if self._recipe.gradient_checkpointing:
            self._model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        groups = [("multi_modal_projector", self._recipe.mm_projector_lr), ("lora_", self._recipe.learning_rate)]
        named = [(name, weight) for name, weight in self._model.named_parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(
            [{"params": chosen, "lr": rate} for part, rate in groups if (chosen := [w for name, w in named if part in name])],
            weight_decay=0.0,
        )

    def step(self, shares: list[Share]) -> float:
        examples, loaded = self._lessons.train, self.base.loaded
        assert loaded is not None
        answers = sum(examples[i].answers for share in shares for i in share.examples)
        total = 0.0
        for share in shares:
            chosen = [examples[i] for i in share.examples]
            ids, labels = collate(chosen, self.base.tokenizer.eos_token_id)
            lengths = torch.tensor([len(example.ids) for example in chosen])
            mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
            pictures = [read_study(self._lessons.images[e.image].read_bytes(), 1 << 26).image for e in chosen if e.image]
            processor: Any = loaded.image_processor
            pixels = processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.base.device, self.base.dtype)
            batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
            moved = {name: tensor.to(self.base.device) for name, tensor in batch.items()}
            with torch.autocast(self.base.device.partition(":")[0], self.base.dtype, enabled=self.base.dtype != torch.float32):
                mean = self._model(**moved, pixel_values=pixels, use_cache=False).loss
            loss = mean * sum(example.answers for example in chosen) / answers
            loss.backward()
            total += float(loss.detach())
        nn.utils.clip_grad_norm_([w for w in self._model.parameters() if w.requires_grad], self._recipe.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total


def measure_speed(model: Path, steps: int, folder: Path) -> dict[str, Any]:
    """Seconds and losses of both loops over the same steps; the first of each is left out of the time."""
    recipe = Recipe(
        model, draw_records(folder, 24 * steps), folder / "speed", lora_dropout=0.0, per_device_train_batch_size=8,
        gradient_accumulation_steps=2, gradient_checkpointing=False,
    )  # fmt: skip
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    base = open_base(model, str(accelerator.device) if torch.cuda.is_available() else "cpu", None)
    training, _ = prepare(recipe, accelerator, base, read_lessons(recipe, base))
    plain, optimizer = Plain(training), optimizer_of(training)
    scaler = torch.amp.GradScaler("cuda", enabled=False)
    seconds, losses, read = {"ours": 0.0, "plain": 0.0}, [], 0
    for number, shares in tqdm(islice(training.steps(0), steps), total=steps, desc="steps", disable=None):
        started = time.perf_counter()
        ours, tokens = step(training, shares, optimizer, scaler, number, is_first=number == 0)
        between = time.perf_counter()
        theirs = plain.step(shares[0])
        ended = time.perf_counter()
        losses.append((ours, theirs))
        if number:
            read += tokens
            seconds = {"ours": seconds["ours"] + between - started, "plain": seconds["plain"] + ended - between}
    return {
        "steps": steps, "tokens": read, "tokens_per_second": {name: round(read / spent, 1) for name, spent in seconds.items()},
        "ratio": round(seconds["plain"] / seconds["ours"], 3),
        "largest_difference_of_losses": max(abs(a / b - 1) for a, b in losses),
    }  # fmt: skip


def losses_of(out: Path) -> list[float]:
    return [line["loss"] for _, line in read_objects(out / "losses.jsonl")]


def command(model: Path, records: Path, out: Path) -> list[str]:
    flags = {
        "--model_name_or_path": model,
        "--data_path": records,
        "--output_dir": out,
        "--num_train_epochs": 3,
        "--save_steps": 2,
    }
    flags |= {"--per_device_train_batch_size": 4, "--lora_r": 8, "--gradient_checkpointing": "False"}
    return [sys.executable, "-m", "finetune.lora", *(str(word) for pair in flags.items() for word in pair)]


def kill_once(argv: list[str], out: Path, rng: random.Random, steps: int) -> bool:
    """Kill -9 somewhere between two steps, or within one, or while a state is being written; whether it was not done yet."""
    line, pause = rng.randrange(steps), rng.random() * 0.05
    own, none = {**os.environ, "OMP_WAIT_POLICY": "passive"}, subprocess.DEVNULL
    with subprocess.Popen(argv, cwd=ROOT, env=own, stdout=none, stderr=none) as process:
        while process.poll() is None:
            with suppress(OSError):
                if len((out / "losses.jsonl").read_bytes().splitlines()) >= line:
                    break
            time.sleep(0.01)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
    return not (out / "manifest.json").exists()


def measure_kills(_: Path, kills: int, folder: Path) -> dict[str, Any]:
    """How many killed trainings went on to the losses of one that was left alone; `under_way` were killed before their end."""
    model, records, rng = (
        import_module("tests.tiny").build(folder / "tiny"),
        draw_records(folder / "scenes", 40),
        random.Random(SEED),
    )
    subprocess.run(command(model, records, folder / "whole"), cwd=ROOT, check=True, capture_output=True)
    whole, under_way, same, worst = losses_of(folder / "whole"), 0, 0, 0.0
    for number in tqdm(range(kills), desc="kills", disable=None):
        out = folder / f"killed-{number}"
        if kill_once(command(model, records, out), out, rng, len(whole)):
            under_way += 1
            subprocess.run(command(model, records, out), cwd=ROOT, check=True, capture_output=True)
        found = losses_of(out)
        apart = max(abs(a - b) for a, b in zip(whole, found, strict=True))
        worst, same = max(worst, apart), same + (apart < 1e-4)
    return {
        "kills": kills, "under_way": under_way, "same_losses": same, "largest_difference": worst, "steps": len(whole),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/hilum-tiny"))
    parser.add_argument("--steps", type=int, default=12, help="of each loop; 0 leaves the speed out")
    parser.add_argument("--kills", type=int, default=20, help="0 leaves them out")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    args = parser.parse_args()
    found: dict[str, Any] = {"machine": machine.describe()}
    with tempfile.TemporaryDirectory() as folder:
        for name, count, measure in (("speed", args.steps, measure_speed), ("kills", args.kills, measure_kills)):
            if count:
                (Path(folder) / name).mkdir()
                found[name] = measure(args.model, count, Path(folder) / name)
    print(json.dumps(found, indent=2))
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
