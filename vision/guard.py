"""The guard: a pool of child processes that run one function on untrusted bytes, within memory, computing time and a deadline.

Knows processes, limits and pipes. Does not know what is decoded. A child inherits no open file, and no environment but where
libraries lie. Its arrays come back through a pipe, of which a killed process leaves nothing: the child packs what is large
piece by piece while its parent reads the piece before, where shared memory would wait for the whole. What a system lacks does
not hold there: macOS bounds no memory, Windows only the pool's own deadline. A decoder that crashes takes only its child with
it everywhere.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import prod
from pathlib import Path
from queue import LifoQueue
from threading import Timer
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

Answer = tuple[dict[str, Any], list[NDArray[Any]]]
"""Plain values, which JSON knows, and arrays."""
Admit = Callable[[int], None]
"""What a guarded function calls with the number of samples that a header declares, before it decodes them."""

MEMORY, BYTES_PER_SAMPLE, BYTES_PER_BYTE = 1 << 30, 24, 6
SECONDS, SAMPLES_PER_SECOND, PATIENCE = 3, 10_000_000, 3
"""What any file may take, and more for each sample and byte; by the clock PATIENCE times as long, for a busy machine."""

_START = "import sys; from vision.guard import serve; serve(sys.argv[1])"
_NO_MEMORY = 3


class GuardError(Exception):
    """The child failed or crashed."""


@dataclass(frozen=True)
class Streamed:
    """An array of a child's answer that is never whole in memory: `write` gives its bytes to a file, in C order."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    write: Callable[[IO[bytes]], object]


Reply = tuple[dict[str, Any], Sequence[NDArray[Any] | Streamed]]
"""An Answer as a child gives it."""
Work = Callable[[bytes, int, Admit], Reply]


class Pool:
    """At most `most` children for the task "module:function", whose function is a `Work(data, argument, admit)`.

    They start when they are needed, with a call on no data; stay warm; and are replaced when they die, hang or have served
    `serves` requests.
    """

    def __init__(self, task: str, most: int = 2, serves: int = 200) -> None:
        self._task, self._serves = task, serves
        self._slots: LifoQueue[_Child | None] = LifoQueue()  # the last one used is the warmest
        for _ in range(most):
            self._slots.put(None)

    def run(self, data: bytes, argument: int, most_bytes: int, seconds: float) -> Answer:
        """What the task makes of `data` and a whole number: a dict of plain values, and arrays of `most_bytes` in all.

        Callable from any thread; waits while all children are at work, which does not count as its time. Raises MemoryError or
        TimeoutError when the child ran out of its own, GuardError for every other failure.
        """
        child, is_fit = self._slots.get(), False
        try:
            if child is not None and child.process.poll() is not None:
                child.close()
                child = None
            child = child or _Child(self._task)
            answer = child.run(data, argument, most_bytes, seconds)
            is_fit = child.served < self._serves
            return answer
        finally:
            if child is not None and not is_fit:
                child.close()
                with suppress(MemoryError):
                    child = _Child(self._task)  # now, so that nobody waits for it
            self._slots.put(child)

    def warm(self) -> None:
        """Have a child that is ready before the first request."""
        child = self._slots.get()
        with suppress(MemoryError):
            child = child or _Child(self._task)
        self._slots.put(child)


class _Child:
    """One process and what it is reached by. It ends when its parent does: nobody else holds its standard input."""

    def __init__(self, task: str) -> None:
        self.served, self.is_late = 0, False
        path = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
        alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a pool reserves memory for each thread
        alone |= {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # 12 MP touch 12,000 small pages per copy, or 24 large ones
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-B", "-c", _START, task],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=alone | kept | {"PYTHONPATH": os.pathsep.join(path)},
                start_new_session=True,  # Ctrl-C is for the parent
            )
        except OSError as error:  # no more processes, files or memory
            raise MemoryError("No child can be started.") from error
        self.requests, self.answers = cast("IO[bytes]", self.process.stdin), cast("IO[bytes]", self.process.stdout)
        atexit.register(self.close)

    def close(self) -> None:
        """End it, in the middle of its work too."""
        atexit.unregister(self.close)
        self.process.kill()
        self.process.wait()
        self.answers.close()
        with suppress(BrokenPipeError):  # what it did not take is lost
            self.requests.close()

    def run(self, data: bytes, argument: int, most_bytes: int, seconds: float) -> Answer:
        self.served += 1
        timer = Timer(seconds, self._end_late)
        timer.daemon = True
        timer.start()
        try:
            self.requests.writelines([_line(len(data), argument), data])
            self.requests.flush()
            return self._answer(most_bytes)
        except (OSError, ValueError, TypeError) as error:
            raise self._failure() from error
        finally:
            timer.cancel()

    def _answer(self, most_bytes: int) -> Answer:
        """Its plain values and arrays; whatever a child that was taken over may say, these are numbers of a bounded size."""
        told, shapes = json.loads(self.answers.readline(1 << 20))
        kinds = [np.dtype(name) for name, _ in shapes]
        total = sum(kind.itemsize * prod(shape) for kind, (_, shape) in zip(kinds, shapes, strict=True))
        if total > most_bytes or any(kind.kind not in "uif" for kind in kinds):
            raise ValueError("The answer is too large, or holds more than numbers.")
        arrays = [np.empty(shape, kind) for kind, (_, shape) in zip(kinds, shapes, strict=True)]
        if [self.answers.readinto(array) for array in arrays] != [array.nbytes for array in arrays]:  # type: ignore[attr-defined]
            raise ValueError("The bytes break off.")
        return told, arrays

    def _end_late(self) -> None:
        self.is_late = True
        self.process.kill()

    def _failure(self) -> Exception:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        code = self.process.returncode or 0
        name = signal.Signals(-code).name if code < 0 else ""
        if self.is_late or name in ("SIGALRM", "SIGXCPU"):
            return TimeoutError("The child ran out of time.")
        if code == _NO_MEMORY or name == "SIGKILL":  # which a system sends when its memory is full
            return MemoryError("The child ran out of memory.")
        return GuardError(f"The child ended with {code}.")


def serve(task: str) -> None:
    """The life of a child: one request after the other, until nobody is left to ask."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a C library prints is not an answer
    _bound("RLIMIT_CORE", 0)
    module, _, function = task.partition(":")
    work: Work = getattr(import_module(module), function)
    work(b"", 0, lambda samples: None)  # imports what it needs, which is no file's time
    while line := requests.readline():
        size, argument = json.loads(line)
        try:
            _admit(0, size)
            data = requests.read(size)
            told, arrays = work(data, argument, lambda samples, size=size: _admit(samples, size))  # type: ignore[misc]
            answers.write(_line(told, [(array.dtype.str, array.shape) for array in arrays]))
            for array in arrays:
                if isinstance(array, Streamed):
                    array.write(answers)
                else:
                    answers.write(np.ascontiguousarray(array).data)
            answers.flush()
        except MemoryError:
            os._exit(_NO_MEMORY)
        _alarm(0)
        del data, told, arrays


def _line(*words: Any) -> bytes:
    return json.dumps(words).encode() + b"\n"


def _admit(samples: int, size: int) -> None:
    """Bounds what is done from now on to a file of `size` bytes that declares so many samples."""
    seconds = SECONDS + samples // SAMPLES_PER_SECOND
    _bound("RLIMIT_AS", MEMORY + BYTES_PER_SAMPLE * samples + BYTES_PER_BYTE * size)
    _bound("RLIMIT_CPU", int(time.process_time()) + 1 + seconds)
    _alarm(PATIENCE * seconds)


def _alarm(seconds: int) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _bound(name: str, most: int) -> None:
    if resource is not None:
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
