"""Memory: what this process has freed, shared by all who ask and given back to the system.

Knows glibc's allocator, and does nothing where there is another. Does not know who has freed what.
"""

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""glibc's malloc.h"""
OWN_PAGES_BYTES = 256 << 10


def share_freed_memory() -> None:
    """Have what one conversation has freed serve the next.

    With an arena of its own, glibc's way, each of the many threads that serve sessions holds 7 MB from its first answer on, and
    what is freed in one arena serves no thread of another. What is kept of a conversation leaves holes of its own size, unless
    large blocks have pages to themselves, which go back.
    """
    with suppress(OSError, AttributeError):
        glibc = ctypes.CDLL(None)
        glibc.mallopt(M_ARENA_MAX, 1)
        glibc.mallopt(M_MMAP_THRESHOLD, OWN_PAGES_BYTES)


def give_back() -> None:
    """Let the system have what this process has freed; takes some milliseconds.

    What conversations free leaves holes between what stays, and glibc keeps the holes: 50 MB and more with 100 sessions.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
