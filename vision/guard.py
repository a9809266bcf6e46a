"""The guard: runs one function on untrusted bytes in a child process that may not take much memory or time.

Knows processes and limits. Does not know what is decoded. Where the system has no limits for memory (Windows), time alone is
bounded; a decoder that crashes takes only its child with it everywhere.
"""

import os
import subprocess
import sys
from pathlib import Path

MEMORY_EXIT = 3
_CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
try:
    import resource
except ImportError:
    resource = None
def bound(name, most):
    if resource:
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
bound("RLIMIT_CORE", 0)
bound("RLIMIT_CPU", int(sys.argv[3]))
from {module} import {function}
answer = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what a C library prints is not the answer
data = sys.stdin.buffer.read()
try:
    bound("RLIMIT_AS", int(sys.argv[2]))
    answer.write({function}(sys.argv[4], data))
    answer.close()
except MemoryError:
    os._exit({memory_exit})
except Exception:
    os._exit(1)
"""


class GuardError(Exception):
    """The child failed, crashed or ran out of its time."""


def run_guarded(module: str, function: str, request: str, data: bytes | memoryview, memory: int, seconds: int) -> bytes:
    """`module.function(request, data)`, bytes to bytes, within `memory` bytes of address space and `seconds` of computing.

    Raises MemoryError when the memory does not suffice, GuardError for every other failure. Costs one start of Python.
    """
    code = _CHILD.format(module=module, function=function, memory_exit=MEMORY_EXIT)
    command = [sys.executable, "-P", "-c", code, str(Path(__file__).parents[1]), str(memory), str(seconds), request]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a pool reserves memory for each thread
    try:
        done = subprocess.run(
            command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=3 * seconds, env=alone, check=False
        )
    except subprocess.TimeoutExpired:
        raise GuardError("The child ran out of time.") from None
    if done.returncode == MEMORY_EXIT:
        raise MemoryError
    if done.returncode:
        raise GuardError(f"The child ended with {done.returncode}.")
    return done.stdout
