"""LoRA and QLoRA: records to an adapter, over a fresh base in 16 or 4 bits, resumable after a kill.

Knows the order of work and one step of training. Does not know the prompt, the base's layers or the command line's flags.

    python -m finetune.lora --model_name_or_path models/hilum-tiny --data_path records.jsonl --output_dir runs/radiology
    python -m finetune.lora --model_name_or_path weights/llava-1.5-7b-nf4 --data_path llava.json --output_dir runs/a --bits 4
    accelerate launch --multi_gpu --num_processes 2 -m finetune.lora ...                  # several GPUs
    python -m torch.distributed.run --nproc_per_node 2 -m finetune.lora ... --device cpu  # several processes on processors
    python -m finetune.lora merge runs/radiology --base models/hilum-tiny --out weights/merged

The training part of the records is read (by patient, 80/10/10), the validation part gives the eval loss, the rest is never
opened. The same command after a kill goes on from the last state, to the same losses. `--output_dir` then holds the adapter
as peft reads it, manifest.json with what it was made from, losses.jsonl, and events/ for TensorBoard. `merge` writes base and
adapter as one checkpoint, for vLLM or a conversion to GGUF.
"""

import json
import logging
import math
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from transformers import get_scheduler

from chat.engine.adapter import CONFIG, PROJECTOR, WEIGHTS, identity
from chat.engine.store import MANIFEST
from finetune import lora_merge as merge
from finetune.asking import guarded
from finetune.batches import Example, Share, collate, plan
from finetune.jsonl import claim, disk_errors, dump, read_objects, write_config, write_objects
from finetune.lora_base import Base, Features, Taught, Trained, check_gradients, inject, open_base
from finetune.lora_data import Lessons, read_lessons
from finetune.lora_flags import ON_RESUME, Recipe, read_recipe
from finetune.progress import Progress
from finetune.receipts import code_version, write_receipt
from finetune.records import RecordError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """All that one process needs to take a step."""

    recipe: Recipe
    accelerator: Accelerator
    base: Base
    taught: Taught
    wrapped: Any
    features: Features
    lessons: Lessons

    def epoch(self, number: int) -> list[list[list[Share]]]:
        recipe, lengths = self.recipe, [len(example.ids) for example in self.lessons.train]
        batch, processes = recipe.per_device_train_batch_size, self.accelerator.num_processes
        return plan(lengths, batch, recipe.gradient_accumulation_steps, processes, recipe.seed + 1_000_003 * number)

    def steps(self, done: int) -> Iterator[tuple[int, list[list[Share]]]]:
        """Number and shares of every step behind those that are done."""
        each = len(self.epoch(0))
        for number in range(done // each, self.recipe.num_train_epochs):
            yield from ((at, shares) for at, shares in enumerate(self.epoch(number), number * each) if at >= done)

    def loss(self, examples: Sequence[Example], model: Any) -> torch.Tensor:
        """Summed over the answers' tokens of a micro-batch."""
        ids, targets = collate(examples, self.base.tokenizer.eos_token_id)
        seen = [self.features.of(example.image) for example in examples if example.image]
        found: torch.Tensor = model(ids.to(self.base.device), targets.to(self.base.device), seen)
        return found


class Journal:
    """What a run came to, step by step: losses.jsonl, and curves for TensorBoard. Steps that are done again are forgotten."""

    def __init__(self, out: Path, done: int) -> None:
        file = out / "losses.jsonl"
        kept = [line for _, line in read_objects(file) if line["step"] <= done] if file.exists() else []
        write_objects(file, kept)
        self._file = file.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(out / "events"), purge_step=done + 1)

    def write(self, step: int, loss: float, rate: float, with_curve: bool) -> None:
        with disk_errors(Path(self._file.name)):
            self._file.write(dump({"step": step, "loss": loss, "rate": rate}) + "\n")
            self._file.flush()
            if with_curve:
                self.board.add_scalar("loss/train", loss, step)
                self.board.add_scalar("rate", rate, step)

    def close(self) -> None:
        self._file.close()
        self.board.close()


def train(recipe: Recipe) -> None:
    """Teach an adapter and write it. Raises RecordError and EngineError with what a person can mend."""
    out, has_gpu = recipe.output_dir, torch.cuda.is_available()
    waiting = InitProcessGroupKwargs(timeout=timedelta(seconds=recipe.ddp_timeout))
    accelerator = Accelerator(cpu=recipe.device == "cpu" or not has_gpu, kwargs_handlers=[waiting])
    with claim(out) if accelerator.is_main_process else nullcontext():
        if (out / MANIFEST).exists():
            raise RecordError(f"{out.name} holds an adapter that is done. Choose another --output_dir, or remove it.")
        device = str(accelerator.device) if has_gpu and recipe.device != "cpu" else recipe.device
        base = open_base(recipe.model_name_or_path, device, None if recipe.bits is None else recipe.bits == 4)
        lessons = read_lessons(recipe, base)
        facts = facts_of(recipe, base, lessons, accelerator.num_processes)
        if accelerator.is_main_process:
            keep_or_compare(out, facts)
        training, peft = prepare(recipe, accelerator, base, lessons)
        metrics = run(training)
        if accelerator.is_main_process:
            finish(out, peft, facts | {"metrics": metrics})
    accelerator.end_training()


def facts_of(recipe: Recipe, base: Base, lessons: Lessons, processes: int) -> dict[str, Any]:
    """The receipt, but for the metrics."""
    config = {name: value.name if isinstance(value, Path) else value for name, value in asdict(recipe).items()}
    return {
        "name": recipe.output_dir.resolve().name, "rank": recipe.lora_r, "projector": moves_projector(recipe, base),
        "base": {"name": base.path.resolve().name, "sha256": identity(base.path), "four_bit": base.four_bit},
        "data": lessons.facts | {"licence": recipe.licence}, "config": config, "processes": processes,
        "code": code_version(), "seed": recipe.seed,
    }  # fmt: skip


def moves_projector(recipe: Recipe, base: Base) -> bool:
    return base.loaded is not None and recipe.mm_projector_lr > 0


def keep_or_compare(out: Path, facts: dict[str, Any]) -> None:
    """Write down what this run is made from, or hold it against what the run was made from that is gone on with."""
    file = out / "run.config.json"
    if not file.exists():
        write_config(out / "run", facts)
        return
    try:
        before = json.loads(file.read_text("utf-8"))
        changed = [name for name in ("base", "data", "processes") if before[name] != facts[name]]
        changed += [f"--{key}" for key in facts["config"].keys() - ON_RESUME if before["config"][key] != facts["config"][key]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{file.name} in {out.name} cannot be read. Choose another --output_dir.") from error
    if changed:
        raise RecordError(f"{out.name} holds a run with another {changed[0]}. Run its own command, or choose another folder.")


def prepare(recipe: Recipe, accelerator: Accelerator, base: Base, lessons: Lessons) -> tuple[Training, PeftModel]:
    """Look at the images, put in the matrices, and wrap the whole for as many processes as there are."""
    projector = moves_projector(recipe, base)
    folder = recipe.output_dir / "features"
    if recipe.feature_folder:  # other runs may keep there what another base saw
        folder = recipe.feature_folder / f"{identity(base.path)[:16]}-{base.dtype}-{'tower' if projector else 'projector'}"
    features = Features(base, folder, projector)
    mine = sorted(lessons.images.items())[accelerator.process_index :: accelerator.num_processes]
    for digest, path in tqdm(mine, desc="images", disable=None, leave=False):
        features.prepare(digest, path)
    accelerator.wait_for_everyone()
    torch.manual_seed(recipe.seed)
    peft = inject(base, recipe.lora_r, recipe.lora_alpha, recipe.lora_dropout, projector)
    if recipe.gradient_checkpointing:
        base.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    taught = Taught(base, projector)
    return Training(recipe, accelerator, base, taught, accelerator.prepare(taught), features, lessons), peft


def optimizer_of(training: Training) -> torch.optim.Optimizer:
    recipe, groups = training.recipe, []
    for rate, is_projector in ((recipe.learning_rate, False), (recipe.mm_projector_lr, True)):
        weights = [weight for name, weight in training.taught.trained() if (PROJECTOR in name) == is_projector]
        groups += [{"params": weights, "lr": rate}] if weights else []
    return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)


def run(training: Training) -> dict[str, Any]:
    """Every step that is not done yet, and what they came to."""
    recipe, accelerator = training.recipe, training.accelerator
    each_epoch, is_main = len(training.epoch(0)), accelerator.is_main_process
    total = each_epoch * recipe.num_train_epochs
    optimizer = optimizer_of(training)
    schedule = get_scheduler(recipe.lr_scheduler_type, optimizer, math.ceil(recipe.warmup_ratio * total), total)
    scaler = torch.amp.GradScaler("cuda", enabled=training.base.dtype is torch.float16)
    progress = Progress(recipe.output_dir / "state.pt", Trained(training.taught), optimizer, schedule, scaler)
    done, started, read = restore(progress), time.perf_counter(), 0
    keep = {"no": total, "steps": recipe.save_steps, "epoch": each_epoch}[recipe.save_strategy]
    metrics: dict[str, Any] = {"steps": total}
    steps = tqdm(training.steps(done), initial=done, total=total, desc="steps", disable=None if is_main else True)
    with closing(Journal(recipe.output_dir, done)) if is_main else nullcontext() as journal:
        for number, shares in steps:
            metrics["train_loss"], tokens = step(training, shares, optimizer, scaler, number, is_first=number == done)
            schedule.step()
            read, past = read + tokens, number + 1
            if journal:
                journal.write(past, metrics["train_loss"], optimizer.param_groups[0]["lr"], past % recipe.logging_steps == 0)
            if past % each_epoch == 0 and recipe.eval_strategy == "epoch" and training.lessons.val:
                metrics["eval_loss"] = validate(training)
                if journal:
                    journal.board.add_scalar("loss/val", metrics["eval_loss"], past)
            if is_main and past % keep == 0 and past < total:
                save_state(progress, past)
    return metrics | {"tokens_per_second": round(read / max(1e-9, time.perf_counter() - started), 1)}


def save_state(progress: Progress, done: int) -> None:
    try:
        progress.save(done)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by the one or the other
        raise RecordError(f"{progress.file.name} cannot be written. Make room, and run the same command again.") from error


def restore(progress: Progress) -> int:
    try:
        return progress.restore()
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise RecordError(f"{progress.file.name} cannot be read. Remove it to begin again.") from error


def step(
    training: Training, shares: list[list[Share]], optimizer: torch.optim.Optimizer, scaler: Any, number: int, is_first: bool
) -> tuple[float, int]:
    """One step of AdamW: the mean loss over its answers' tokens, and the tokens that were read, of all processes.

    Dropout hangs on seed, step and process alone, so that a step is the same after a kill.
    """
    accelerator, examples = training.accelerator, training.lessons.train
    counted = [examples[i] for process in shares for share in process if share.counts for i in share.examples]
    answers, mine = sum(example.answers for example in counted), shares[accelerator.process_index]
    torch.manual_seed((training.recipe.seed * 1_000_003 + number) * accelerator.num_processes + accelerator.process_index)
    total = torch.zeros((), device=training.base.device)
    for share in mine:
        with nullcontext() if share is mine[-1] else accelerator.no_sync(training.wrapped):
            loss = training.loss([examples[i] for i in share.examples], training.wrapped) * share.counts / answers
            scaler.scale(loss * accelerator.num_processes).backward()  # DDP takes the mean over processes
        total += loss.detach()
    mean = float(accelerator.reduce(total))
    if is_first:
        check_gradients(training.taught, scaler.is_enabled())
    if not math.isfinite(mean):
        raise RecordError(f"The loss is not a number any more at step {number + 1}. Lower --learning_rate, and begin again.")
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_([weight for _, weight in training.taught.trained()], training.recipe.max_grad_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return mean, sum(len(example.ids) for example in counted)


@torch.no_grad()
def validate(training: Training) -> float:
    """Mean loss over the answers' tokens of the validation part."""
    accelerator, examples = training.accelerator, training.lessons.val
    batch, total = training.recipe.per_device_eval_batch_size, torch.zeros((), device=training.base.device)
    training.taught.tune(False)
    for start in range(accelerator.process_index * batch, len(examples), accelerator.num_processes * batch):
        total += training.loss(examples[start : start + batch], training.taught)
    training.taught.tune(True)
    return float(accelerator.reduce(total)) / sum(example.answers for example in examples)


def finish(out: Path, peft: PeftModel, facts: dict[str, Any]) -> None:
    """Write the adapter, its receipt last, and drop what only a killed run needs."""
    with disk_errors(out), tempfile.TemporaryDirectory(dir=out) as draft:
        tensors = get_peft_model_state_dict(peft, save_embedding_layers=False)  # "auto" would ask the hub
        (Path(draft) / WEIGHTS).write_bytes(save({name: weight.cpu().contiguous() for name, weight in tensors.items()}))
        peft.peft_config["default"].save_pretrained(draft)
        for name in (WEIGHTS, CONFIG):
            (Path(draft) / name).replace(out / name)
    write_receipt(out, facts)
    (out / "state.pt").unlink(missing_ok=True)
    shutil.rmtree(out / "features", ignore_errors=True)
    log.info("%s: %s", out.name, facts["metrics"])


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["merge"]:
        return merge.main(given[1:])
    return guarded(lambda: train(read_recipe(given, __doc__ or "")))


if __name__ == "__main__":
    sys.exit(main())
