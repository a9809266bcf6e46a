"""The vault: the one folder that files pass through. It lies in memory, and it goes when Hilum goes, however that ends.

Knows file systems and processes. Does not know HTTP, sessions, or what lies in the folder. Nothing here may import gradio,
which reads the folder's name from the environment when it is imported. Linux; on macOS there is no file system in memory:
the folder then lies where temporary files lie, which is said, and everything else is the same.
"""

import fcntl
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chat.memory import share_freed_memory

PREFIX = "hilum-vault-"
IN_MEMORY = ("tmpfs", "ramfs")
SECONDS_TO_GO = 5.0

WATCHDOG = """
import os, shutil, signal, sys, time
for name in ("SIGHUP", "SIGINT", "SIGTERM"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.stdin.buffer.read()
for _ in range(100):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    if not os.path.lexists(sys.argv[1]):
        break
    time.sleep(0.05)
"""
"""Waits until its parent is gone, by any signal: then the kernel closes the pipe. Tries again while a thread still writes."""

log = logging.getLogger(__name__)


class VaultError(Exception):
    """There is no place for uploads; says what to do."""


@contextmanager
def open_vault() -> Iterator[Path]:
    """A folder in memory for this process, mode 0700, where Gradio's and every other temporary file goes until the end.

    Folders that nobody holds any more are taken away first. Core dumps, which hold all memory, are off from here on.
    Raises VaultError where no file system in memory can be written to.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    share_freed_memory()
    if swaps := swaps_on_disk():
        log.warning("swap is on (%s): what lies in memory may be written there. Turn it off, or encrypt it.", ", ".join(swaps))
    roots = _roots()
    for root in roots:
        sweep(root)
    folder, lock = _make(max(roots, key=lambda root: shutil.disk_usage(root).free))
    # A session of its own: Ctrl-C in the terminal is not for it.
    watchdog = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WATCHDOG, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
    )  # fmt: skip
    os.environ |= {"GRADIO_TEMP_DIR": str(folder), "TMPDIR": str(folder)}
    tempfile.tempdir = str(folder)
    watch_writes(folder)
    try:
        yield folder
    finally:
        for name in ("GRADIO_TEMP_DIR", "TMPDIR"):
            os.environ.pop(name, None)
        tempfile.tempdir = None
        with suppress(subprocess.TimeoutExpired):
            watchdog.communicate(timeout=SECONDS_TO_GO)
        shutil.rmtree(folder, ignore_errors=True)  # where somebody has killed the watchdog
        os.close(lock)


def _roots() -> list[Path]:
    """Where files lie in memory and this process may write: the roomiest is used, since Docker's /dev/shm holds 64 MB."""
    # Not tempfile.gettempdir(), which finds out by writing a file.
    known = [Path("/dev/shm"), *(Path(os.environ.get(name) or "/tmp").resolve() for name in ("XDG_RUNTIME_DIR", "TMPDIR"))]
    roots = [place for place in known if file_system(place) in IN_MEMORY and os.access(place, os.W_OK | os.X_OK)]
    if roots:
        return roots
    if sys.platform == "linux":
        raise VaultError(
            f"no place in memory for uploads: neither /dev/shm nor {known[-1]} is a tmpfs that can be written to; "
            "mount one there (with Docker: --tmpfs /tmp:size=2g) and start Hilum again."
        )
    log.warning("this system has no file system in memory: uploads pass through %s and are removed at once.", known[-1])
    return [known[-1]]


def file_system(place: Path) -> str:
    """The kind of file system that `place` lies on, as Linux calls it; "" where that is not known."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8", "replace").splitlines()]
    except OSError:
        return ""
    around = [(mount[1], mount[2]) for mount in mounts if place.is_dir() and place.is_relative_to(mount[1])]
    return sorted(around, key=lambda mount: len(mount[0]))[-1][1] if around else ""  # the innermost, and there the last


def swaps_on_disk(table: Path = Path("/proc/swaps")) -> list[str]:
    """Where memory may be written to; swap in compressed memory (zram) is none."""
    try:
        lines = table.read_text("utf-8").splitlines()[1:]
    except OSError:
        return []
    return [line.split()[0] for line in lines if not line.startswith("/dev/zram")]


def sweep(root: Path) -> None:
    """Take away what earlier vaults in `root` have left. A vault is locked by its process for as long as that lives."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            if folder.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(root: Path) -> tuple[Path, int]:
    """A new folder and the lock on it. Another Hilum's sweep may come between the two: then once more."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.is_dir():
                return folder, lock
            os.close(lock)


_watched: Path | None = None
_elsewhere: set[str] = set()


def written_elsewhere() -> frozenset[str]:
    """Paths outside the vault that Python code of this process has opened for writing since the vault was opened.

    Not Python's own compiled code, and no devices. What a C library opens by itself is not seen.
    """
    return frozenset(_elsewhere)


def watch_writes(folder: Path) -> None:
    """Take note from here on (PEP 578) of every file that is opened for writing outside `folder`."""
    global _watched
    is_new, _watched = _watched is None, folder
    if is_new:  # a hook cannot be taken away
        sys.addaudithook(_note)


def _note(event: str, given: tuple[object, ...]) -> None:
    if event != "open" or len(given) < 3 or not isinstance(given[0], str | bytes) or not isinstance(given[2], int):
        return
    if given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        with suppress(OSError):  # a relative path in a folder that is gone
            path = os.path.normpath(Path(os.fsdecode(given[0])).absolute())
            is_known = f"{path}/".startswith((f"{_watched}/", "/proc/")) or path in ("/dev/null", "/dev/tty")
            if not is_known and "/__pycache__/" not in path:
                _elsewhere.add(path)
