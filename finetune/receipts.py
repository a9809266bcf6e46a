"""Receipts: what an adapter was made from, written beside it; and the gate that it passes before it is installed.

Knows folders, hashes and figures. Does not know models or how anything was measured.
"""

import hashlib
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chat.engine.adapter import CONFIG, WEIGHTS, read_receipt
from chat.engine.store import MANIFEST, assembling, entry, seal
from finetune.jsonl import disk_errors, dump
from finetune.record_formats import Record, as_row
from finetune.records import RecordError

ROOT = Path(__file__).parents[1]
MOST_LOST = 0.02
"""What an adapter may cost a guard metric before the gate stays shut: 2 points."""


def code_version() -> dict[str, str]:
    """Hilum's version and commit, `+` behind it where the tree was changed, and the libraries that a result hangs on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        except OSError:
            return ""  # no git on this machine

    commit = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    libraries = {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
    return {"hilum": str(project["version"]), "commit": commit or "unknown", **libraries}


def digest_records(records: Sequence[Record], images: Mapping[str, str]) -> str:
    """SHA-256 of the records and of the bytes of their images (`images`: name to hash), whatever their order."""
    lines = sorted(dump(as_row(record, "records") | {"image": images.get(record.image or "")}) for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write_receipt(folder: Path, facts: Mapping[str, object]) -> None:
    """Seal an adapter's folder; from here on a changed file is refused. Raises RecordError for a full disk."""
    with disk_errors(folder / MANIFEST):
        seal(folder, facts, {name: entry(folder / name) for name in (WEIGHTS, CONFIG)})


def add_metrics(folder: Path, metrics: Mapping[str, object]) -> None:
    """Put figures into the receipt of an adapter. Raises EngineUnavailable where it is not as it was trained."""
    receipt = read_receipt(folder)
    write_receipt(folder, {**receipt, "metrics": {**receipt.get("metrics", {}), **metrics}})


def losses_of(base: Mapping[str, float], adapted: Mapping[str, float]) -> list[str]:
    """The guard metrics that fell by more than `MOST_LOST`, in words. One that is not measured on both counts as fallen."""
    names = sorted({*base, *adapted})
    lost = [name for name in names if not base.get(name, 2.0) - adapted.get(name, -1.0) <= MOST_LOST + 1e-9]
    return [f"{name} from {base.get(name, float('nan')):.3f} to {adapted.get(name, float('nan')):.3f}" for name in lost]


def install(folder: Path, target: Path, guard: Mapping[str, Mapping[str, float]]) -> None:
    """Copy an adapter to where it is served from, when its `guard` (base and adapter, by metric) lets it through.

    Raises RecordError where a guard metric fell too far or none was measured, and EngineUnavailable for a bad folder.
    """
    receipt: dict[str, Any] = read_receipt(folder)
    if not guard.get("base") or not guard.get("adapter"):
        raise RecordError(f"{folder.name} was not measured on what it must not forget. Evaluate it with --guard above 0.")
    if lost := losses_of(guard["base"], guard["adapter"]):
        raise RecordError(
            f"{folder.name} is not installed: {'; '.join(lost)}, and at most {MOST_LOST:.2f} may be lost. Train it more gently."
        )
    with assembling(target) as part:
        for name in (WEIGHTS, CONFIG):
            shutil.copyfile(folder / name, part / name)
        write_receipt(part, {**receipt, "name": target.name})
