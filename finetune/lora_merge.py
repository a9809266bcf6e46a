"""Merging: base and adapter as one checkpoint, in the base's own precision, for servers that take no adapters.

Knows folders and peft. Does not know training.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration

from chat.engine import checkpoint
from chat.engine.adapter import attach, check_base
from chat.engine.layouts import as_hugging_face
from chat.engine.quantize import companions
from chat.engine.shards import read_json
from chat.engine.store import assembling, entry, seal, write_json
from finetune.asking import guarded
from finetune.lora_flags import Parser
from finetune.records import RecordError


def merge(adapter: Path, base: Path, out: Path) -> None:
    """Write `out` from a fresh 16-bit load. Raises EngineUnavailable for another base, or one that was saved in 4 bits."""
    if not (base / "config.json").is_file():
        raise RecordError(f"There is no model in {base}: it holds no config.json. Name the adapter's base as --base.")
    base = as_hugging_face(base) if read_json(base / "config.json").get("model_type", "").startswith("llava") else base
    config = read_json(base / "config.json")
    if config.get("quantization_config"):
        raise RecordError(f"{base.name} is quantised, and merging would round it twice. Name its 16-bit original as --base.")
    receipt = check_base(adapter, base)
    kind = LlavaForConditionalGeneration if "vision_config" in config else AutoModelForCausalLM
    dtype = getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "bfloat16"))
    with checkpoint.checkpoint_errors(base, "checkpoint"):
        model: Any = checkpoint.load_model(kind, base, "cpu", dtype, quantise=False)
    merged = attach(model, adapter, receipt, torch.float32).merge_and_unload(safe_merge=True)
    with assembling(out) as part:
        merged.save_pretrained(part)
        for path in companions(base):
            (part / path.name).write_bytes(path.read_bytes())
        if (part / "hilum.json").exists():
            write_json(part / "hilum.json", read_json(part / "hilum.json") | {"name": out.name})
        made_from = {"adapter": receipt["name"], "base": receipt["base"], "data": receipt["data"]}
        seal(part, made_from, {path.name: entry(path) for path in sorted(part.iterdir()) if path.is_file()})


def main(arguments: Sequence[str]) -> int:
    parser = Parser(prog="python -m finetune.lora merge", description=__doc__)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--base", type=Path, required=True, help="the 16-bit base that it was trained over")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")

    def work() -> None:
        args: argparse.Namespace = parser.parse_args(arguments)
        merge(args.adapter, args.base, args.out)
        print(f"{args.out} is ready.")

    return guarded(work)
