"""Shards: files of named tensors, read without running what they hold and written whole or not at all.

Knows safetensors, `.bin` files, their indexes and full disks. Does not know which model the tensors are of.
"""

import errno
import json
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from chat.engine.base import EngineUnavailable

SHARD_BYTES = 1 << 30


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise EngineUnavailable(f"{path} is not a readable JSON object. Fetch or copy the checkpoint again.")
    return value


def find_weights(folder: Path) -> tuple[Path, ...]:
    """The files that hold a folder's weights, safetensors first; EngineUnavailable when one of them is not there."""
    for whole in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{whole}.index.json"
        if index.is_file():
            names = sorted(set(read_json(index).get("weight_map", {}).values()))
            if lost := [name for name in names if Path(name).name != name or not (folder / name).is_file()]:
                raise EngineUnavailable(f"{folder} is incomplete: {lost[0]} is missing. Fetch it again.")
            return tuple(folder / name for name in names)
        if (folder / whole).is_file():
            return (folder / whole,)
    raise EngineUnavailable(f"{folder} is incomplete: it holds no model.safetensors and no pytorch_model.bin. Fetch it again.")


def read_shard(file: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, mapped from the disk rather than read. EngineUnavailable says what is wrong with the file."""
    damaged = f"{file} is damaged, cut short or not a file of weights. Fetch it again."
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as shard:
                return {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118 - it is no mapping
        tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        if "unsupported global" not in str(error).lower():
            raise EngineUnavailable(damaged) from error
        raise EngineUnavailable(
            f"{file} holds more than tensors and could run code, so it was not read. Take the checkpoint as safetensors."
        ) from error
    except (RuntimeError, EOFError, ValueError, SafetensorError) as error:
        raise EngineUnavailable(damaged) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise EngineUnavailable(damaged)
    return tensors


def write_shards(
    folder: Path, tensors: Iterator[tuple[str, torch.Tensor]], most_bytes: int = SHARD_BYTES
) -> dict[str, torch.Size]:
    """Safetensors files of at most `most_bytes` (or one tensor), and their index; the shapes of what was written.

    No more than one file's tensors are held at a time.
    """
    shapes: dict[str, torch.Size] = {}
    files: dict[str, str] = {}
    held: dict[str, torch.Tensor] = {}

    def flush() -> None:
        name = f"model-{len(set(files.values())) + 1:05}.safetensors"
        save_file(held, folder / name, {"format": "pt"})
        files.update(dict.fromkeys(held, name))
        held.clear()

    for name, tensor in tensors:
        if held and sum(each.nbytes for each in held.values()) + tensor.nbytes > most_bytes:
            flush()
        held[name] = tensor.clone(memory_format=torch.contiguous_format)
        shapes[name] = tensor.shape
    flush()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}), "utf-8")
    return shapes


@contextmanager
def written_whole(target: Path, needed: int) -> Iterator[Path]:
    """A folder to write `needed` bytes into, which replaces `target` at the end and is removed when anything fails."""
    part = target.with_name(f".{target.name}.part")

    def room(fact: str) -> EngineUnavailable:
        free = shutil.disk_usage(target.parent).free
        return EngineUnavailable(
            f"{target} takes {needed:,} bytes, and {fact} ({free:,} are free). Make room, then start again."
        )

    if shutil.disk_usage(target.parent).free < needed:
        raise room("there is less")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        yield part
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        if getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in str(error):
            raise room("the disk is full") from error
        raise EngineUnavailable(f"{target} cannot be written ({error}). Make its folder writable, then start again.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
