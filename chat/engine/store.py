"""The store: checkpoints on disk that are whole, with the hashes to prove it, or not there at all.

    python -m chat.engine.checkpoint fetch [--from DIR] [--to DIR]
    python -m chat.engine.checkpoint quantize [SOURCE] [TARGET]
    python -m chat.engine.checkpoint verify [DIR]

Knows folders, hashes and free space. Does not know tensors (`quantize.py`) or the hub (`hub.py`). A folder is put together
beside its place under the name `NAME.part`, where a later run goes on, and is renamed when the last byte is written.
"""

import argparse
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from chat.engine.base import EngineError, EngineUnavailable
from chat.engine.checkpoint import FOUR_BIT_LLAVA, checkpoint_errors

WEIGHTS = Path(__file__).parents[2] / "weights"
SIXTEEN_BIT_LLAVA = "llava-1.5-7b-hf"
MANIFEST = "manifest.json"

SPARE_BYTES = 16 << 20
"""Left free beyond what is written: file tables, tokenizers, the manifest."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Entry(TypedDict):
    """One file of a manifest."""

    bytes: int
    sha256: str


def entry(path: Path) -> Entry:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_json(path: Path, value: object) -> None:
    """Whole or not at all, also when the process is killed in the middle."""
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises EngineUnavailable where there is none, or none that can be used."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise EngineUnavailable(f"There is no checkpoint at {folder}. Run `make model`.")
    if not path.is_file():
        raise EngineUnavailable(f"{folder} holds no {MANIFEST} to compare it with. Make it again with `make model`.")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        manifest["source"].items()
        for name, file in manifest["files"].items():
            if Path(name).name != name or not isinstance(file["bytes"], int) or len(file["sha256"]) != 64:
                raise ValueError(name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineUnavailable(f"{path} is not a manifest that Hilum wrote. Make the checkpoint again.") from error
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose every file has the size and the SHA-256 that stand in it; else EngineUnavailable."""
    manifest = read_manifest(folder)
    wrong = [problem for name, file in manifest["files"].items() if (problem := _problem(folder / name, file))]
    if wrong:
        more = f" (and {len(wrong) - 1} more files are not right)" if wrong[1:] else ""
        raise EngineUnavailable(f"{folder} is damaged: {wrong[0]}{more}. Remove the folder and run `make model` again.")
    return manifest


def _problem(path: Path, wanted: Entry) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    if (size := path.stat().st_size) != wanted["bytes"]:
        return f"{path.name} holds {size:,} bytes instead of {wanted['bytes']:,}"
    return None if entry(path) == wanted else f"{path.name} does not have the SHA-256 of its manifest"


@contextmanager
def assembling(target: Path) -> Iterator[Path]:
    """The folder in which `target` is put together. A clean exit renames it to `target`; any other leaves it to go on from.

    Raises EngineUnavailable when `target` is there already, when another process is at work on it, and for a disk that is
    full or may not be written.
    """
    part = target.with_name(f"{target.name}.part")
    with _disk_errors(target):
        if target.exists():
            raise EngineUnavailable(f"{target} is there already. Move it away to make it again, or name another folder.")
        part.mkdir(parents=True, exist_ok=True)
        lock = os.open(part, os.O_RDONLY)
        try:
            _lock(lock, part)
            yield part
            part.rename(target)
        finally:
            os.close(lock)


def _lock(folder: int, part: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise EngineUnavailable(f"Another process is writing {part}. Wait for it to end.") from error


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """The one place where a disk's exceptions become ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise EngineUnavailable(
                f"The disk of {folder} is full. Free some space and run it again; it goes on there."
            ) from error
        raise EngineUnavailable(f"{error.filename or folder} cannot be used: {error.strerror or error}.") from error


def require_space(folder: Path, needed: int) -> None:
    """Raises EngineUnavailable unless `needed` bytes and some to spare are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise EngineUnavailable(
            f"{folder.parent} needs {(needed + SPARE_BYTES) / 1e9:.2f} GB of free disk and has {free / 1e9:.2f} GB. "
            "Free some space, or name a folder on another disk."
        )


def seal(folder: Path, source: Mapping[str, object], files: Mapping[str, Entry]) -> None:
    """Write the manifest: what a folder was made from, and its files as they must stay."""
    write_json(folder / MANIFEST, {"source": source, "files": dict(sorted(files.items()))})


def is_there(target: Path, source: Mapping[str, object]) -> bool:
    """Whether `target` is there, whole, and made from `source`. Raises EngineUnavailable where it is there but not so."""
    if not target.exists():
        return False
    made_from = verify(target)["source"]
    if any(made_from.get(key) != value for key, value in source.items()):
        raise EngineUnavailable(f"{target} was made from something else. Move it away, or name another folder.")
    return True


def take(source: Path, target: Path) -> None:
    """Fetch from a folder that is already here: hard links where the disk is the same, copies elsewhere.

    A folder in the original layout is converted. Raises EngineUnavailable for what is no whole 16-bit LLaVA.
    """
    from chat.engine.layouts import as_hugging_face
    from chat.engine.quantize import checkpoint_files

    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint_errors(source):
        folder = as_hugging_face(source, target)
    if folder == target and not (target / MANIFEST).exists():
        seal(target, origin(source), {path.name: entry(path) for path in checkpoint_files(target)})
    if is_there(target, origin(source)):
        return
    files = checkpoint_files(source)
    with assembling(target) as part:
        for path in files:
            _link(path, part / path.name)
        seal(part, origin(source), {path.name: entry(part / path.name) for path in files})


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        require_space(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)


def origin(folder: Path) -> dict[str, object]:
    """Where a folder's weights come from, as far as its own manifest knows; else its name."""
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else {}
    return dict(manifest.get("source", {"folder": folder.resolve().name}))


def _parser() -> argparse.ArgumentParser:
    from chat.engine.hub import REPOSITORY, REVISION
    from chat.engine.shards import SHARD_BYTES

    parser = argparse.ArgumentParser(prog="python -m chat.engine.checkpoint", description="Get and check LLaVA-1.5-7B.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="get the 16-bit checkpoint, from the hub or from a folder")
    fetch.add_argument("--from", dest="source", type=Path, help="a folder that holds it already; nothing is downloaded")
    fetch.add_argument("--to", type=Path, default=WEIGHTS / SIXTEEN_BIT_LLAVA)
    fetch.add_argument("--repository", default=REPOSITORY)
    fetch.add_argument("--revision", help=f"commit, tag or branch (default: {REVISION[:12]} of {REPOSITORY}, else main)")
    quantize = commands.add_parser("quantize", help="write its 4-bit form, shard by shard")
    quantize.add_argument("source", nargs="?", type=Path, default=WEIGHTS / SIXTEEN_BIT_LLAVA)
    quantize.add_argument("target", nargs="?", type=Path, default=WEIGHTS / FOUR_BIT_LLAVA)
    quantize.add_argument("--shard-mib", type=int, default=SHARD_BYTES >> 20, help="16-bit weights that are read at a time")
    check = commands.add_parser("verify", help="hash a checkpoint again and compare it with its manifest")
    check.add_argument("folder", nargs="?", type=Path, default=WEIGHTS / FOUR_BIT_LLAVA)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line. What a person can mend is one sentence on stderr and exit code 2."""
    given = _parser().parse_args(arguments)
    try:
        print(_run(given), flush=True)
    except EngineError as error:
        print(f"hilum: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("hilum: stopped; the same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None


def _run(given: argparse.Namespace) -> str:
    from chat.engine import hub, quantize

    if given.command == "verify":
        files = verify(given.folder)["files"]
        size = sum(file["bytes"] for file in files.values())
        return f"{given.folder} is whole: {len(files)} files, {size / 1e9:.2f} GB, every SHA-256 as in its manifest."
    if given.command == "quantize":
        quantize.quantize(given.source, given.target, max(1, given.shard_mib) << 20)
        return f"{given.target} is ready. Its 16-bit original is no longer needed to run Hilum."
    if given.source is not None:
        take(given.source, given.to)
    else:
        hub.fetch(given.repository, given.revision, given.to)
    return f"{given.to} is ready."
