"""Flow: an answer that another thread brings in, as an iterator that any thread may close.

Knows a queue and the work that fills it. Does not know servers or models.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from chat.engine.base import Delta

Put = Callable[[Delta | Exception | None], None]
"""Takes what arrives: deltas, then either the error that ended them or None."""

PULSE_SECONDS = 0.25
"""While nothing arrives an empty Delta comes this often, so that whoever reads can see whether it is still wanted."""


class Flow:
    """An answer that arrives. Any thread may close it at any time, and a next that waits then ends; dropping it closes it too.

    Nothing is sent before the first next.
    """

    def __init__(self, begin: Callable[[Put], Future[None]]) -> None:
        self._begin = begin
        self._work: Future[None] | None = None
        self._arrived: SimpleQueue[Delta | Exception | None] = SimpleQueue()
        self._is_closed = False
        self._starting = threading.Lock()

    def __iter__(self) -> "Flow":
        return self

    def __next__(self) -> Delta:
        with self._starting:
            if self._work is None and not self._is_closed:
                self._work = self._begin(self._arrived.put)
        try:
            item = None if self._is_closed else self._arrived.get(timeout=PULSE_SECONDS)
        except Empty:
            return Delta("", tokens=0)
        if isinstance(item, Delta) and not self._is_closed:
            return item
        was_closed, self._is_closed = self._is_closed, True
        if isinstance(item, Exception) and not was_closed:
            raise item
        raise StopIteration

    def close(self) -> None:
        """Hang up."""
        self._is_closed = True
        with self._starting:
            if self._work:
                self._work.cancel()
        self._arrived.put(None)

    def __del__(self) -> None:
        self.close()
