"""The line: who may ask, in which order, how many may wait and for how long.

Knows callers by name and the engines that it can stop. Does not know questions, pages or what a step of an answer is.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Protocol, TypeVar, runtime_checkable

from chat.engine.base import EngineError
from chat.engine.turnstile import Ticket, Turnstile
from chat.memory import give_back

T = TypeVar("T")

MOST_WAITING = 112
MOST_SECONDS = 1800
"""From asking to the last token, waiting included: a 7B model on two cores takes ten minutes for a long answer."""

AT_AN_ADDRESS = 16
"""Answers that are fetched from elsewhere at a time; a device of our own gives one after another."""

PULSE_SECONDS = 0.25
"""Whoever waits as the next is asked this often whether it is still wanted; further back up to four times less often."""

LAST_WORDS_SECONDS = 0.3
"""What callers have been told then needs to reach their screens."""


class LineError(EngineError):
    """This question cannot be taken, or not be finished, now; the reason says why."""


@runtime_checkable
class Stoppable(Protocol):
    """An engine on a device of our own: it computes until it is stopped."""

    def stop(self, session: str) -> None:
        """End the answer under way for a session, from any thread; its stream then ends."""


class _Place(Ticket):
    """A place in the line; `is_whole` for a work that asks questions of its own, under its own name.

    Each is woken by itself: a hundred who wake at every step of the line take the interpreter from the one who computes.
    """

    def __init__(self, owner: str, is_whole: bool) -> None:
        super().__init__(owner)
        self.is_whole = is_whole
        self.woken = threading.Event()


def busy() -> LineError:
    """What a session hears that has its place already."""
    return LineError("Your last request is still under way. Ask again when it has ended, or stop it.", "busy")


class Line(Turnstile):
    """A bounded queue of whole answers and reports in front of the engines. Any thread may call.

    An owner is a session, or a session's name, a space and what it wants beside its answer; a session has one place at a time.
    """

    def __init__(self, engines: Iterable[object], most: int = MOST_WAITING, seconds: float = MOST_SECONDS) -> None:
        self._engines = [engine for engine in engines if isinstance(engine, Stoppable)]
        super().__init__(1 if self._engines else AT_AN_ADDRESS)
        self._queue: deque[_Place] = deque()  # type: ignore[assignment]
        self.most = most
        self.seconds = seconds
        self._is_closed = False

    def check(self, owner: str = "", coming: int = 0) -> None:
        """Raises LineError where nobody more may wait, with the `coming` here or under way, or the session has its place."""
        session = owner.partition(" ")[0]
        with self._changed:
            if self._is_closed:
                raise LineError("Hilum is being closed. Start it again, then ask again.", "closing")
            if any(other.owner.partition(" ")[0] == session and not other.is_closed for other in self._queue):
                raise busy()
            if max(coming, len(self._queue)) >= self._at_once + self.most:
                raise LineError(f"{self.most} questions wait already. Ask again in a moment.", "line_full", most=self.most)

    def lead(self, owner: str, steps: Generator[T, None, None], parts: int = 1) -> Generator[T | int, None, None]:
        """The steps of one answer when its turn has come; until then how many stand before it, at every pulse.

        A work of several `parts`, each an answer under the same name, stands in the line once, for so many times as long.
        Closing this leaves the line and closes the steps. Raises LineError, also where the time is over.
        """
        if parts == 1 and (whole := self._whole(owner)):
            with closing(steps):
                yield from (steps if not whole.is_closed else ())
            return
        caller, started, seconds = _Place(owner, parts > 1), time.monotonic(), parts * self.seconds
        with closing(steps):
            with self._changed:
                self.check(owner)
                self._queue.append(caller)
            try:
                while (ahead := self.ahead(caller)) and not caller.is_closed:
                    yield ahead
                    caller.woken.wait(PULSE_SECONDS * min(ahead, 4))
                    self._see_to_it(started, seconds)
                if not caller.is_closed:
                    for step in steps:
                        yield step
                        self._see_to_it(started, seconds)
                self._see_to_it(started, seconds)
            finally:
                self.leave(caller)

    def _whole(self, owner: str) -> _Place | None:
        with self._changed:
            return next((each for each in reversed(self._queue) if each.is_whole and each.owner == owner), None)

    def _wake(self) -> None:
        """Those who may pass now, and those who shall leave."""
        with self._changed:
            for place, each in enumerate(self._queue):
                if place < self._at_once or each.is_closed:
                    each.woken.set()

    def leave(self, caller: Ticket) -> None:
        super().leave(caller)
        self._wake()
        if not self._queue:  # milliseconds that nobody has to wait for
            give_back()

    def _see_to_it(self, started: float, seconds: float) -> None:
        if self._is_closed:
            raise LineError("Hilum is being closed. Start it again, then ask again.", "closing")
        if time.monotonic() - started > seconds:
            minutes = max(1, round(seconds / 60))
            raise LineError(f"This took more than {minutes} minutes. Ask for a shorter answer.", "deadline", minutes=minutes)

    def stop(self, owner: str) -> None:
        """End what waits or is under way for this owner, at once and on the device too."""
        super().stop(owner)
        self._wake()
        for engine in self._engines:
            engine.stop(owner)

    def close(self, seconds: float = 2.0) -> None:
        """Take nobody more, end all that is under way, and wait, not much longer than this, until each caller knows."""
        with self._changed:
            self._is_closed = True
            owners = {caller.owner for caller in self._queue}
        for owner in owners:
            self.stop(owner)
        with self._changed:
            self._changed.wait_for(lambda: not self._queue, seconds)
        if owners:
            time.sleep(LAST_WORDS_SECONDS)
