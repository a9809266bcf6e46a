"""The way of LLaVA-1.5-7B through this machine, without its weights: random ones of its size and names.

    python -m benchmarks.smoke_7b [--scratch FOLDER] [--layers 32 --hidden 4096] [--shard-mib 1024] [--json]

Writes 14 GB in 16-bit, quantises them (killed five times on the way), loads the result and loads by quantising on the fly, and
lets both answer; two steps of LoRA are taken over the 4-bit one, at rank 16 and at LLaVA's 128. Needs 21 GB of disk, which are
given back, and 18 GiB of memory for the on-the-fly load. Every step has a process of its own, so its peak memory is its own;
`--step teach --folder FOLDER` takes the steps of LoRA alone, over a checkpoint that is there.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import CLIPVisionConfig, GenerationConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.utils import logging as transformers_logging

from benchmarks import machine
from benchmarks.engine_speed import counters
from chat.engine.base import Message, Sampling
from chat.engine.checkpoint import Loaded, load
from chat.engine.local import LocalEngine
from chat.engine.quantize import PROGRESS
from finetune.rehearsal import draw_records
from finetune.tokenizer import IMAGE, train_tokenizer

KILLS = 5
VOCABULARY = 32064
LINES = ("Is there pneumonia in the left lung? Yes. No.", "A chat between a curious user and an assistant. USER: ASSISTANT:")
HUB_NAMES = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
"""Prefixes in memory and on the hub."""


def write_model(folder: Path, layers: int, hidden: int) -> int:
    """A whole 16-bit checkpoint in three files as on the hub, one tensor in memory at a time; returns its parameters."""
    tokenizer = train_tokenizer(LINES * 3, folder, vocab_size=400)
    width, depth = min(1024, hidden), min(24, layers)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth, num_attention_heads=width // 64,
            image_size=336, patch_size=14, projection_dim=768,
        ),
        text_config=LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=-(-hidden * 43 // 1024) * 64, num_hidden_layers=layers,
            num_attention_heads=hidden // 128, num_key_value_heads=hidden // 128, max_position_embeddings=4096,
            rms_norm_eps=1e-5,
        ),
        image_token_index=tokenizer.get_vocab()[IMAGE], image_seq_length=576, dtype="float16",
    )  # fmt: skip
    config.save_pretrained(folder)
    GenerationConfig(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id).save_pretrained(folder)
    with torch.device("meta"):
        model: Any = LlavaForConditionalGeneration(config)
    shapes: list[dict[str, torch.Size]] = [{}, {}, {}]
    total, done = sum(int(weight.numel()) for weight in model.state_dict().values()), 0
    for name, weight in model.state_dict().items():
        old, new = next(pair for pair in HUB_NAMES if name.startswith(pair[0]))
        shapes[min(2, 3 * done // total)][new + name.removeprefix(old)] = weight.shape
        done += weight.numel()
    names = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    for file, part in zip(names, shapes, strict=True):
        write_shard(folder / file, part)
    weight_map = {name: file for file, part in zip(names, shapes, strict=True) for name in part}
    index = {"metadata": {"total_size": 2 * total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def write_shard(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Random fp16 tensors as safetensors lays them out: the header's length, the header, the bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for name, shape in shapes.items():
            scales = len(shape) == 1 and name.endswith("weight")
            file.write((torch.randn(*shape) * 0.02 + float(scales)).half().numpy().data)


def run(*arguments: str) -> tuple[dict[str, Any], float]:
    """A step in a process of its own: the JSON on its last line, and its peak memory in GiB."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.smoke_7b", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read().strip().splitlines()
    code, peak = reap(process)
    if code:
        raise SystemExit(f"The step {arguments[1]} ended with {code}.")
    return json.loads(said[-1]), peak


def reap(process: subprocess.Popen[Any]) -> tuple[int, float]:
    """Exit code and peak resident memory in GiB, files that were mapped included."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss / (1 << 20)


def quantise(source: Path, target: Path, shard_mib: int) -> dict[str, float | int]:
    """Run the command; kill it each time that it has finished one more shard, five times; then let it end."""
    command = [
        sys.executable,
        "-m",
        "chat.engine.checkpoint",
        "quantize",
        str(source),
        str(target),
        "--shard-mib",
        str(shard_mib),
    ]
    part = target.with_name(f"{target.name}.part")
    kills = resumed = remade = 0
    peak = seconds = 0.0
    before: dict[str, int] = {}
    code = -signal.SIGKILL
    while code == -signal.SIGKILL:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        known = len(before)
        while kills < KILLS and not target.exists() and len(finished(part)) <= known:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.02)
        if kills < KILLS:
            process.kill()
        code, used = reap(process)
        peak, seconds = max(peak, used), seconds + time.perf_counter() - started
        after = finished(target if target.exists() else part)
        resumed += bool(before)
        remade += sum(after.get(name) != time_ns for name, time_ns in before.items())
        kills += code == -signal.SIGKILL
        before = after
    if code:
        raise SystemExit(f"Quantising ended with {code}.")
    return {
        "seconds_with_kills": round(seconds), "peak_gib": round(peak, 2), "kills": kills, "resumed": resumed,
        "finished_shards_made_again": remade, "shards": len(before),
        "bytes": sum(file.stat().st_size for file in target.iterdir()),
    }  # fmt: skip


def finished(folder: Path) -> dict[str, int]:
    """Modification times of the shards that a progress file vouches for, or of all where the folder is complete."""
    try:
        names = json.loads((folder / PROGRESS).read_text())["done"]
    except OSError:
        names = [path.name for path in folder.glob("*.safetensors")] if (folder / "manifest.json").exists() else []
    return {name: (folder / name).stat().st_mtime_ns for name in names}


def answer(folder: Path, four_bit: bool | None, tokens: int) -> dict[str, Any]:
    """Load, warm up, answer a question about a picture greedily and one more behind it: how long, and how much was read."""
    started = time.perf_counter()
    loaded = load(folder, "cpu", four_bit)
    ready = time.perf_counter()
    engine = LocalEngine(loaded)
    engine.warm_up()
    warm = time.perf_counter()
    picture = Image.linear_gradient("L").resize((336, 336)).convert("RGB")
    question = (Message("system", ("A chat.",)), Message("user", (picture, "\n", "Is there pneumonia?")))
    first, ids, per_token = timed(engine, loaded, question, tokens)
    behind = Message("assistant", ("",), tuple(ids)), Message("user", ("In which lung?",))
    return {
        "load_seconds": round(ready - started, 2), "warm_up_seconds": round(warm - ready, 1), "first": first,
        "follow_up": timed(engine, loaded, (*question, *behind), 1)[0], "seconds_per_token": round(per_token, 3), "ids": ids,
    }  # fmt: skip


def timed(
    engine: LocalEngine, loaded: Loaded, messages: Sequence[Message], tokens: int
) -> tuple[dict[str, Any], list[int], float]:
    """Question to first token, tokens read and pictures looked at for it; the answer's ids; seconds per further token."""
    start, times, ids, read = time.perf_counter(), list[float](), list[int](), dict[str, int]()
    with counters(loaded) as seen:
        for delta in engine.stream(messages, Sampling(tokens, 0), "smoke"):
            read = read or dict(seen)
            times.append(time.perf_counter())
            ids += delta.ids
    found = {"seconds": round(times[0] - start, 1), **read, "of": engine.count(messages)}
    return found, ids, (times[-1] - times[0]) / max(1, len(ids) - 1)


def teach(folder: Path) -> dict[str, dict[str, float]]:
    """Two steps of LoRA over a 4-bit base, one picture each, by the command that people use: seconds, loading among them, and
    peak memory.
    """
    found = {}
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        records = draw_records(Path(scratch, "scenes"), 2)
        for rank in (16, 128):
            flags = {
                "model_name_or_path": folder, "data_path": records, "output_dir": Path(scratch, f"rank-{rank}"), "lora_r": rank,
                "lora_alpha": 2 * rank, "per_device_train_batch_size": 1, "hold_out": "False", "save_strategy": "no",
            }  # fmt: skip
            started = time.perf_counter()
            command = [sys.executable, "-m", "finetune.lora", *(f"--{name}={value}" for name, value in flags.items())]
            code, peak = reap(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            if code:
                raise SystemExit(f"Teaching at rank {rank} ended with {code}.")
            found[f"rank_{rank}"] = {"seconds": round(time.perf_counter() - started), "peak_gib": round(peak, 2)}
    return found


def measure(scratch: Path, args: argparse.Namespace) -> dict[str, object]:
    source, target = scratch / "random-16-bit", scratch / "random-nf4"
    written, _ = run("--step", "write", "--folder", str(source), "--layers", str(args.layers), "--hidden", str(args.hidden))
    print(f"wrote {written['parameters'] / 1e9:.2f} billion parameters in {written['write_seconds']} s", file=sys.stderr)
    quantised = quantise(source, target, args.shard_mib)
    print(f"quantised: {quantised}", file=sys.stderr)
    verified = (
        subprocess.run([sys.executable, "-m", "chat.engine.checkpoint", "verify", str(target)], check=False).returncode == 0
    )
    tokens = ("--tokens", str(args.tokens))
    saved, saved_peak = run("--step", "saved", "--folder", str(target), *tokens)
    taught, _ = run("--step", "teach", "--folder", str(target))
    fly, fly_peak = run("--step", "fly", "--folder", str(source), *tokens)
    return {
        "machine": machine.describe(), "layers": args.layers, "hidden": args.hidden, **written, "quantise": quantised,
        "verified": verified, "same_answer": saved.pop("ids") == fly.pop("ids"),
        "teach": taught, "saved": {**saved, "peak_gib": round(saved_peak, 2)},
        "on_the_fly": {**fly, "peak_gib": round(fly_peak, 2)},
        "load_over_on_the_fly": round(saved["load_seconds"] / fly["load_seconds"], 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096, help="a multiple of 128")
    parser.add_argument("--shard-mib", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--scratch", type=Path, default=Path("weights"), help="where the weights lie meanwhile")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/smoke_7b.json"))
    parser.add_argument("--json", action="store_true", help="print one JSON object last, on one line")
    parser.add_argument("--step", choices=("write", "saved", "fly", "teach"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step == "write":
        started = time.perf_counter()
        args.folder.mkdir()
        parameters = write_model(args.folder, args.layers, args.hidden)
        print(json.dumps({"parameters": parameters, "write_seconds": round(time.perf_counter() - started)}))
    elif args.step == "teach":
        print(json.dumps(teach(args.folder)))
    elif args.step:
        transformers_logging.disable_progress_bar()
        print(json.dumps(answer(args.folder, True if args.step == "fly" else None, args.tokens)))
    else:
        args.scratch.mkdir(parents=True, exist_ok=True)
        needed = 3 * (args.layers * 12 * args.hidden**2 + 2 * VOCABULARY * args.hidden + 400_000_000)
        if shutil.disk_usage(args.scratch).free < needed:
            raise SystemExit(f"{args.scratch} needs {needed / 1e9:.0f} GB of free disk; name another folder with --scratch.")
        with tempfile.TemporaryDirectory(prefix="smoke-", dir=args.scratch) as folder:
            result = measure(Path(folder), args)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(result) if args.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
