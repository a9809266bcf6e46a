"""Quantising: a 16-bit LLaVA folder to 4-bit NF4, shard by shard, without ever holding the model.

Knows tensors and their names. Does not know devices, prompts or the hub. What it writes is tensor for tensor what
transformers' `save_pretrained` writes after quantising on the fly (Dettmers et al. 2023: NF4 with double quantisation, in
blocks of 64, over the language model's linear layers; the vision tower, the projector and the embeddings stay bf16).
"""

import errno
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import quantize_4bit
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import LlavaConfig

from chat.engine import checkpoint
from chat.engine.base import EngineUnavailable
from chat.engine.layouts import MARK, is_hugging_face, read_config
from chat.engine.shards import SHARD_BYTES
from chat.engine.store import MANIFEST, Entry, assembling, entry, origin, require_space, seal, verify, write_json

PROGRESS = "progress.json"
LINEAR = re.compile(r"language_model\.(?:model\.)?layers\.\d+\.(?:self_attn|mlp)\.\w+_proj\.weight")
"""The weights that SIXTEEN_BIT_PARTS leaves to 4-bit, by the names of transformers 4 (the hub's) and 5."""

_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_NOT_COPIED = {"config.json", "model.safetensors.index.json", MANIFEST, MARK, PROGRESS, "verified.json"}


@dataclass(frozen=True)
class Shard:
    """Tensors of one source file that become one output file, and the bytes that will take (about)."""

    source: Path
    names: tuple[str, ...]
    estimated_bytes: int


def quantize(source: Path, target: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write `source` in 4-bit to `target`, a folder that appears when it is whole. A run that was killed is gone on with.

    Raises EngineUnavailable for a source that is broken, of another family or already quantised, and for a full disk.
    """
    files = weight_files(source)
    with assembling(target) as part:
        hashes = _source_hashes(source, files)
        made_from = {"files": hashes, "shard_bytes": shard_bytes, "bitsandbytes": version("bitsandbytes")}
        shards = [shard for file in files for shard in _plan(file, shard_bytes)]
        if not any(LINEAR.search(name) for shard in shards for name in shard.names):
            raise EngineUnavailable(f"{source} names no layers of a Llama-like language model; there is nothing to quantise.")
        names = shard_names(len(shards))
        done = _resume(part, made_from)
        require_space(part, sum(shard.estimated_bytes for shard, name in zip(shards, names, strict=True) if name not in done))
        for number, (shard, name) in enumerate(zip(shards, names, strict=True), 1):
            if name not in done:
                _save(_quantized(shard), part / name)
                done[name] = entry(part / name)
                write_json(part / PROGRESS, {"made_from": made_from, "done": done})
            print(f"shard {number} of {len(shards)}: {done[name]['bytes'] / 1e9:.2f} GB", flush=True)
        _finish(source, part, done, {**origin(source), **made_from})


def weight_files(source: Path) -> list[Path]:
    """The safetensors files of a whole 16-bit LLaVA folder; else EngineUnavailable with what it is instead."""
    with checkpoint.checkpoint_errors(source):
        config = read_config(source)
        if "quantization_config" in config:
            raise EngineUnavailable(f"{source} is quantised already; give its 16-bit original.")
        if not is_hugging_face(config):
            raise EngineUnavailable(
                f"{source} is in the original layout. Convert it: `fetch --from {source}`, or FROM={source}."
            )
        return checkpoint.weight_files(source)


def companions(source: Path) -> list[Path]:
    """What lies beside the weights and goes along: tokenizer, processor, templates, generation, `hilum.json`."""
    kinds = (".json", ".jinja", ".model")
    return [
        path for path in sorted(source.iterdir()) if path.suffix in kinds and path.is_file() and path.name not in _NOT_COPIED
    ]


def checkpoint_files(source: Path) -> list[Path]:
    """Every file that makes a whole 16-bit folder; EngineUnavailable where it is not one."""
    index = source / "model.safetensors.index.json"
    return [*weight_files(source), *companions(source), source / "config.json", *([index] if index.is_file() else [])]


def shard_names(count: int) -> list[str]:
    """The file names that transformers gives to a checkpoint in `count` files."""
    return [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)] if count > 1 else ["model.safetensors"]


def _source_hashes(source: Path, files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 by file, and as the source's own manifest says, where it has one."""
    known: dict[str, Entry] = verify(source)["files"] if (source / MANIFEST).is_file() else {}
    return {file.name: (known.get(file.name) or entry(file))["sha256"] for file in files}


def _plan(file: Path, shard_bytes: int) -> list[Shard]:
    """A file's tensors in runs of at most `shard_bytes`, or of one tensor where that alone is larger."""
    shards: list[Shard] = []
    names: list[str] = []
    taken = estimate = 0
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
            part = tensors.get_slice(name)
            count, width = prod(part.get_shape()), _DTYPE_BYTES.get(part.get_dtype(), 8)
            if LINEAR.search(name) and part.get_dtype() not in _DTYPE_BYTES:
                raise EngineUnavailable(f"{file} holds {part.get_dtype()} weights; give a 16-bit checkpoint.")
            if names and taken + count * width > shard_bytes:
                shards.append(Shard(file, tuple(names), estimate))
                names, taken, estimate = [], 0, 0
            names.append(name)
            taken += count * width
            # Half a byte a weight, one for each block of 64, four for each 256 of these; names and states.
            estimate += 4096 + (count // 2 + count // 64 + count // 4096 if LINEAR.search(name) else count * min(width, 2))
    return [*shards, Shard(file, tuple(names), estimate)] if names else shards


def _resume(part: Path, made_from: object) -> dict[str, Entry]:
    """The shards of an earlier run that are still as they were written; everything else in the folder is removed."""
    done: dict[str, Entry] = {}
    try:
        progress = json.loads((part / PROGRESS).read_text("utf-8"))
        if progress["made_from"] == made_from:
            done = {
                name: file for name, file in progress["done"].items() if (part / name).exists() and entry(part / name) == file
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # nothing to go on from, which is how every first run begins
    for path in part.iterdir():
        if not done or path.name not in {*done, PROGRESS}:
            path.unlink()
    return done


@torch.inference_mode()
def _quantized(shard: Shard) -> dict[str, torch.Tensor]:
    """The shard's tensors under their own names; a 4-bit weight brings its statistics along, as bitsandbytes packs them."""
    out: dict[str, torch.Tensor] = {}
    with safe_open(shard.source, framework="pt") as tensors:
        for name in shard.names:
            tensor = tensors.get_tensor(name)
            tensor = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
            if LINEAR.search(name):
                tensor, state = quantize_4bit(tensor, compress_statistics=True, quant_type="nf4")
                out |= {f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}
            # A copy, so that the mapped file can be let go.
            out[name] = tensor.clone()
    return out


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    draft = path.with_name(f"{path.name}.draft")
    try:
        save_file(tensors, draft, {"format": "pt"})
    except SafetensorError as error:  # safetensors words what the disk said, without its number
        number = errno.ENOSPC if re.search(r"No space left|os error (28|122|27)\b", str(error)) else errno.EIO
        raise OSError(number, str(error), str(path)) from error
    draft.replace(path)


def _finish(source: Path, part: Path, shards: dict[str, Entry], made_from: dict[str, object]) -> None:
    """All that is not weights. The config comes late: until then nobody takes this for a checkpoint."""
    if len(shards) > 1:
        _write_index(part, sorted(shards))
    for path in companions(source):
        shutil.copyfile(path, part / path.name)
    config: Any = LlavaConfig.from_pretrained(source, local_files_only=True)
    for nested in (config, config.text_config, config.vision_config):
        nested.dtype = torch.bfloat16
    config.quantization_config = checkpoint.nf4(torch.bfloat16)
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(part)
    rest = {path.name: entry(path) for path in part.iterdir() if path.name not in {*shards, PROGRESS}}
    seal(part, made_from, shards | rest)
    (part / PROGRESS).unlink()


def _write_index(part: Path, names: Sequence[str]) -> None:
    weight_map: dict[str, str] = {}
    for name in names:
        with safe_open(part / name, framework="pt") as tensors:
            weight_map |= dict.fromkeys(tensors.keys(), name)
    total = sum((part / name).stat().st_size for name in names)
    write_json(part / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
