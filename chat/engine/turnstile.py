"""The turnstile: callers use a device one after another, in the order in which they came.

Knows threads, generators and what callers are called. Does not know models or prompts.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Ticket:
    """A caller's place in the queue, by what it is called; closing it asks the work to end."""

    def __init__(self, owner: str = "") -> None:
        self.owner = owner
        self.is_closed = False


def _always() -> bool:
    return True


class Turnstile:
    """A lock that is first come, first served, that a waiting caller can leave, and that `at_once` may have together."""

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._changed = threading.Condition()
        self._queue: deque[Ticket] = deque()

    @property
    def waiting(self) -> list[str]:
        """Who waits behind the one who has the turn."""
        with self._changed:
            return [ticket.owner for ticket in self._queue][self._at_once :]

    def ahead(self, caller: Ticket) -> int:
        """How many have to leave before this caller's turn comes; 0 when it has come."""
        with self._changed:
            return self._ahead(caller)

    def _ahead(self, caller: Ticket) -> int:
        return max(0, self._queue.index(caller) - self._at_once + 1)

    def enter(self, caller: Ticket, is_wanted: Callable[[], bool] = _always) -> bool:
        """Wait for the turn; False, and out of the queue, as soon as `is_wanted` says no."""
        has_turn = False
        with self._changed:
            self._queue.append(caller)
            try:
                self._changed.wait_for(lambda: not is_wanted() or not self._ahead(caller))
                has_turn = is_wanted()
            finally:
                if not has_turn:
                    self.leave(caller)
        return has_turn

    def leave(self, caller: Ticket) -> None:
        with self._changed:
            self._queue.remove(caller)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait see whether they still want to."""
        with self._changed:
            self._changed.notify_all()

    def stop(self, owner: str) -> None:
        """Ask the work of this owner, and of its parts "owner/part", to end: what waits then never starts."""
        with self._changed:
            for caller in self._queue:
                if caller.owner == owner or caller.owner.startswith(f"{owner}/"):
                    caller.is_closed = True
            self._changed.notify_all()

    @contextmanager
    def turn(self, owner: str = "") -> Iterator[None]:
        caller = Ticket(owner)
        self.enter(caller)
        try:
            yield
        finally:
            self.leave(caller)


class Stream(Generic[T]):
    """A generator that waits for its turn at the first next and gives the turn back when it ends, fails or is closed.

    Any thread may close it: while it waits it then never starts, and while it works it ends after the step in hand,
    or earlier where the step looks at its ticket. Dropping the last reference closes it too.
    """

    def __init__(self, turnstile: Turnstile, steps: Generator[T, None, None], ticket: Ticket | None = None) -> None:
        self._turnstile = turnstile
        self._steps = steps
        self._ticket = ticket or Ticket()  # the queue must not hold the stream itself, or dropping it would not close it
        self._has_turn = False
        self._busy = threading.Lock()

    def __iter__(self) -> "Stream[T]":
        return self

    def __next__(self) -> T:
        with self._busy:
            if not self._has_turn and not self._ticket.is_closed:
                self._has_turn = self._turnstile.enter(self._ticket, lambda: not self._ticket.is_closed)
            try:
                return self._step()
            except BaseException:
                self._finish()
                raise

    def _step(self) -> T:
        if self._ticket.is_closed:
            raise StopIteration
        step = next(self._steps)
        if self._ticket.is_closed:
            raise StopIteration
        return step

    def close(self) -> None:
        """Stop the work; returns when the step in hand is done."""
        self._ticket.is_closed = True
        self._turnstile.wake()
        with self._busy:
            self._finish()

    def __del__(self) -> None:
        self.close()

    def _finish(self) -> None:
        self._ticket.is_closed = True
        self._steps.close()
        if self._has_turn:
            self._has_turn = False
            self._turnstile.leave(self._ticket)
