"""JSON lines on disk: read with file and line in every complaint, written whole or appended so that a kill loses nothing.

Knows files, locks and JSON. Does not know what a line means.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from finetune.records import RecordError


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and object; blank lines are passed over. Raises RecordError with file and line."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(line, f"{path.name}, line {number}")
    except OSError as error:
        raise RecordError(f"{path.name} cannot be read ({error.strerror}). Check its name and its rights.") from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: this is not JSON. Mend or remove the line.") from error
    if not isinstance(found, dict):
        raise RecordError(f"{where}: this is no JSON object. Mend or remove the line.")
    return found


def dump(value: object) -> str:
    """One line of JSON, letters as they are; half a surrogate pair, which UTF-8 cannot hold, is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text) else json.dumps(value)


def write_text(path: Path, lines: Iterable[str]) -> int:
    """Write lines in place of what `path` holds, all or none of them, and count them. Raises RecordError for a full disk."""
    count = 0
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=path.parent, delete=False) as file:
            try:
                for line in lines:
                    file.write(line + "\n")
                    count += 1
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    return count


def write_objects(path: Path, objects: Iterable[object]) -> int:
    """JSON lines in place of what `path` holds, all or none of them; how many."""
    return write_text(path, map(dump, objects))


def write_config(out: Path, config: dict[str, object]) -> None:
    """What a result was made with, beside it as `NAME.config.json`."""
    write_text(out.with_name(f"{out.name}.config.json"), [json.dumps(config, indent=2, ensure_ascii=False, default=str)])


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """The one place where a disk's complaints become ours."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{path.name} cannot be written ({error.strerror or error}). Make room or choose another place, and run it again."
        ) from error


@contextmanager
def claim(out: Path) -> Iterator[None]:
    """Nobody else writes `out` in this block. Raises RecordError where another run does; a killed run claims nothing."""
    lock = out.with_name(f".{out.name}.lock")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = lock.open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise RecordError(f"Another run is writing {out.name}. Wait for it, or choose another --out.") from None
            with suppress(FileNotFoundError):
                if lock.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    break
            file.close()  # its owner has just removed it
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


class Ledger:
    """What has been paid for: answers by key, each on disk before the next thing happens. Use it within `claim`.

    A line that a kill cut short is dropped when it is opened again; it was still in flight.
    """

    def __init__(self, path: Path) -> None:
        """Raises RecordError for a line before the last that is broken."""
        self._path = path
        self._gate = Lock()
        with disk_errors(path):
            self._file = path.open("a+b", buffering=0)  # a buffer would write what failed again when it is closed
            self._file.seek(0)
            self._file.truncate(self._file.readall().rfind(b"\n") + 1)
        self.paid: dict[str, dict[str, Any]] = {}
        for number, line in read_objects(path):
            if not isinstance(line.get("key"), str):
                self._file.close()
                raise RecordError(f"{path.name}, line {number}, field key: it is missing. Remove the line.")
            self.paid[line["key"]] = line

    def append(self, key: str, **fields: object) -> None:
        line = {"key": key, **fields}
        with self._gate, disk_errors(self._path):
            start = self._file.seek(0, os.SEEK_END)
            try:
                rest = dump(line).encode() + b"\n"
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._file.fileno(), start)
                raise
            self.paid[key] = line

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()
