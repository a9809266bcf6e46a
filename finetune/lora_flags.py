"""The command line of a LoRA training: LLaVA's recipe as the defaults, and the flags of two earlier scripts as they stood.

Knows names, types and ranges. Does not know what a value sets in motion.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_type_hints

from finetune.records import RecordError

RENAMED = {
    "evaluation_strategy": "eval_strategy", "model": "model_name_or_path", "data": "data_path", "out": "output_dir",
    "images": "image_folder", "projector_lr": "mm_projector_lr", "license": "licence", "lora_rank": "lora_r",
}  # fmt: skip
IGNORED = {
    "bf16", "fp16", "tf32", "deepspeed", "version", "vision_tower", "mm_projector_type", "mm_vision_select_layer",
    "mm_use_im_start_end", "mm_use_im_patch_token", "image_aspect_ratio", "group_by_modality_length", "lora_enable",
    "lazy_preprocess", "dataloader_num_workers", "report_to", "save_total_limit",
}  # fmt: skip
"""Flags of LLaVA's script that ask for what is always so here, or for what is decided by the base and the machine."""

ON_RESUME = {
    "model_name_or_path", "data_path", "output_dir", "image_folder", "feature_folder", "licence", "device", "eval_strategy",
    "save_strategy", "save_steps", "logging_steps", "ddp_timeout", "per_device_eval_batch_size", "gradient_checkpointing",
}  # fmt: skip
"""What may change between a kill and the run that goes on: it moves no loss."""


@dataclass(frozen=True)
class Recipe:
    """Everything a training depends on. The defaults are LLaVA-1.5's for LoRA (Liu et al. 2023, finetune_lora.sh)."""

    model_name_or_path: Annotated[Path, "folder of the base: a LLaVA, or a text-only causal model"]
    data_path: Annotated[Path, "records, in any format that finetune.record_files reads"]
    output_dir: Annotated[Path, "the adapter's folder; until it is done, what a killed run goes on from"]
    image_folder: Annotated[Path | None, "where the images lie; by default beside the records"] = None
    feature_folder: Annotated[Path | None, "what the frozen tower saw, for several runs; by default in --output_dir"] = None
    hold_out: Annotated[bool, "keep the validation and test part of the split aside; False teaches every record"] = True
    licence: Annotated[str, "the data's licence, for the receipt"] = "not stated"
    num_train_epochs: Annotated[int, "times that every record is read"] = 1
    per_device_train_batch_size: Annotated[int, "examples at once"] = 16
    per_device_eval_batch_size: Annotated[int, "the same for the validation part"] = 4
    gradient_accumulation_steps: Annotated[int, "batches in a step"] = 1
    eval_strategy: Annotated[Literal["no", "epoch"], "when to measure the loss on the validation part"] = "no"
    save_strategy: Annotated[Literal["no", "steps", "epoch"], "when to keep what a killed run goes on from"] = "steps"
    save_steps: Annotated[int, "steps between two such states"] = 50
    learning_rate: Annotated[float, "of the LoRA matrices"] = 2e-4
    mm_projector_lr: Annotated[float, "of the projector, which is saved with the adapter; 0 leaves it as it is"] = 2e-5
    weight_decay: Annotated[float, "of AdamW"] = 0.0
    warmup_ratio: Annotated[float, "part of the steps in which the rates rise"] = 0.03
    lr_scheduler_type: Annotated[Literal["cosine", "linear", "constant", "constant_with_warmup"], "how they fall"] = "cosine"
    max_grad_norm: Annotated[float, "gradients longer than this are shortened to it"] = 1.0
    lora_r: Annotated[int, "rank"] = 128
    lora_alpha: Annotated[int, "alpha; a matrix counts alpha / rank"] = 256
    lora_dropout: Annotated[float, "part of its inputs that are dropped while it learns"] = 0.05
    bits: Annotated[Literal[4, 16] | None, "bits of the base's weights; by default 4 for a large base on a GPU"] = None
    model_max_length: Annotated[int | None, "longer examples are left out and counted; by default the base's context"] = None
    gradient_checkpointing: Annotated[bool, "compute layers again in the backward pass: slower, in less memory"] = True
    logging_steps: Annotated[int, "steps between two points of the curves"] = 1
    ddp_timeout: Annotated[int, "seconds that processes wait for each other"] = 1800
    seed: Annotated[int, "of the order, the dropout and the first matrices"] = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], "where to train; several GPUs: accelerate launch"] = "auto"


class Parser(argparse.ArgumentParser):
    """Refuses with one sentence."""

    def error(self, message: str) -> NoReturn:
        raise RecordError(f"{message}; --help lists every flag.")


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not True or False")
    return text.lower() == "true"


def _add(parser: Parser) -> None:
    hints = get_type_hints(Recipe, include_extras=True)
    for each in fields(Recipe):
        hint, told = get_args(hints[each.name])
        hint = get_args(hint)[0] if type(None) in get_args(hint) else hint
        choices = get_args(hint) or None
        kind: Any = type(choices[0]) if choices else _bool if hint is bool else hint
        is_needed = each.default is MISSING
        shown = told if is_needed or each.default is None else f"{told} ({each.default})"
        flag = f"--{each.name}"
        parser.add_argument(flag, type=kind, choices=choices, required=is_needed, default=argparse.SUPPRESS, help=shown)


def _spelt(given: Sequence[str]) -> list[str]:
    """Flags under their present names; one that is renamed or without effect comes with a note on stderr."""
    known, found, drop = {each.name for each in fields(Recipe)}, list[str](), False
    for word in given:
        if not word.startswith("--"):
            found += [] if drop else [word]
            drop = False
            continue
        name, equals, value = word[2:].partition("=")
        name, drop = name.replace("-", "_"), False
        if name in RENAMED:
            print(f"hilum: --{name} is called --{RENAMED[name]} now, and is taken as that.", file=sys.stderr)
            name = RENAMED[name]
        elif name in IGNORED:
            print(f"hilum: --{name} has no effect here; the base and the machine decide that.", file=sys.stderr)
            drop = not equals
            continue
        elif name not in known and name != "help":
            near = difflib.get_close_matches(name, {*known, *RENAMED, *IGNORED}, n=1)
            raise RecordError(f"--{name} is not a flag; " + (f"did you mean --{near[0]}?" if near else "see --help."))
        found.append(f"--{name}{equals}{value}")
    return found


def read_recipe(given: Sequence[str], told: str) -> Recipe:
    """The recipe of a command line. Raises RecordError with one sentence for a flag or a value that cannot be used."""
    parser = Parser(prog="python -m finetune.lora", description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add(parser)
    recipe = Recipe(**vars(parser.parse_args(_spelt(given))))
    least = dict.fromkeys(("learning_rate", "max_grad_norm"), 1e-12) | dict.fromkeys(
        ("weight_decay", "mm_projector_lr", "seed"), 0
    )
    for each in fields(Recipe):
        value, bound = getattr(recipe, each.name), least.get(each.name, 1)
        if each.name in ("warmup_ratio", "lora_dropout"):
            if not 0 <= value < 1:
                raise RecordError(f"--{each.name} is {value}; it must be at least 0 and below 1.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and not bound <= value < float("inf"):
            raise RecordError(f"--{each.name} is {value}; it must be at least {bound}.")
    return recipe
