"""Receipts: what an adapter was made from, written beside it; the gate that it passes before it is installed, and its card.

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
from finetune.grades import table
from finetune.jsonl import disk_errors, dump, write_text
from finetune.record_formats import Record, as_row
from finetune.records import RecordError

ROOT = Path(__file__).parents[1]
MOST_LOST = 0.02
"""What an adapter may cost a guard metric before the gate stays shut: 2 points."""
_ABOUT = """
An adapter for Hilum by `python -m finetune.lora`. **It teaches and assists; it never diagnoses**, and it is often wrong.

| made from | |
|---|---|"""
_MEANING = """that it was not taught from, with 95 % intervals over these.
`closed` is balanced accuracy, `open` token F1; `blank` and `other` are the adapter on a grey image and on another patient's,
`words` is a regression on the questions."""
_FOLDED = """
Each was answered by an adapter of the same recipe that had not seen its image; this one was taught from all images."""


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
        write_text(part / "README.md", card(target.name, receipt))


def card(name: str, receipt: Mapping[str, Any]) -> list[str]:
    """A model card in Markdown that says no more than the receipt."""
    facts = {part: receipt.get(part, {}) for part in ("base", "data", "config", "code")}
    told = (f"| {part} | {', '.join(f'{key} {value}' for key, value in said.items())} |" for part, said in facts.items())
    lines = [f"# {name}", _ABOUT, *told]
    if found := receipt.get("metrics", {}).get("evaluation"):
        heads = ("| measure", "|---", "| closed |", "| open |")
        lines += ["", *(row for row in table(found["systems"], found["leads"]) if row.startswith(heads))]
        lines += ["", f"{found['records']} questions about {found['patients']} images {_MEANING}"]
        lines += [_FOLDED] if "folds" in found else []
        for system, guard in found.get("guard", {}).items():
            lines += ["", f"Guard, {system}: {', '.join(f'{metric} {value:.3f}' for metric, value in guard.items())}."]
    return lines
