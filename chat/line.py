"""The line: who may ask, in which order, how many may wait and for how long.

Knows callers by name and the engines that it can stop. Does not know questions, pages or what a step of an answer is.
"""

import time
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Protocol, TypeVar, runtime_checkable

from chat.engine.base import EngineError
from chat.engine.turnstile import Ticket, Turnstile

T = TypeVar("T")

MOST_WAITING = 112
MOST_SECONDS = 1800
"""From asking to the last token, waiting included: a 7B model on two cores takes ten minutes for a long answer."""

AT_AN_ADDRESS = 16
"""Answers that are fetched from elsewhere at a time; a device of our own gives one after another."""

PULSE_SECONDS = 0.25
"""Whoever waits is asked this often whether it is still wanted."""

LAST_WORDS_SECONDS = 0.3
"""What callers have been told then needs to reach their screens."""


class LineError(EngineError):
    """This question cannot be taken, or not be finished, now; the reason says why."""


@runtime_checkable
class Stoppable(Protocol):
    """An engine on a device of our own: it computes until it is stopped."""

    def stop(self, session: str) -> None:
        """End the answer under way for a session, from any thread; its stream then ends."""


class Line(Turnstile):
    """A bounded queue of whole answers in front of the engines. Any thread may call."""

    def __init__(self, engines: Iterable[object], most: int = MOST_WAITING, seconds: float = MOST_SECONDS) -> None:
        self._engines = [engine for engine in engines if isinstance(engine, Stoppable)]
        super().__init__(1 if self._engines else AT_AN_ADDRESS)
        self.most = most
        self.seconds = seconds
        self._is_closed = False

    def check(self) -> None:
        """Raises LineError where nobody more may wait."""
        with self._changed:
            if self._is_closed:
                raise LineError("Hilum is being closed. Start it again, then ask again.", "closing")
            if len(self._queue) >= self._at_once + self.most:
                raise LineError(f"{self.most} questions wait already. Ask again in a moment.", "line_full", most=self.most)

    def lead(self, owner: str, steps: Generator[T, None, None]) -> Generator[T | int, None, None]:
        """The steps of one answer when its turn has come; until then how many stand before it, at every change and pulse.

        Closing this leaves the line and closes the steps. Raises LineError, also where the time is over.
        """
        caller, started = Ticket(owner), time.monotonic()
        with closing(steps):
            with self._changed:
                self.check()
                self._queue.append(caller)
            try:
                while (ahead := self.ahead(caller)) and not caller.is_closed:
                    yield ahead
                    self._wait(caller, ahead)
                    self._see_to_it(started)
                if not caller.is_closed:
                    for step in steps:
                        yield step
                        self._see_to_it(started)
                self._see_to_it(started)
            finally:
                self.leave(caller)

    def _wait(self, caller: Ticket, ahead: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: caller.is_closed or self._ahead(caller) != ahead, PULSE_SECONDS)

    def _see_to_it(self, started: float) -> None:
        if self._is_closed:
            raise LineError("Hilum is being closed. Start it again, then ask again.", "closing")
        if time.monotonic() - started > self.seconds:
            minutes = max(1, round(self.seconds / 60))
            raise LineError(f"This took more than {minutes} minutes. Ask for a shorter answer.", "deadline", minutes=minutes)

    def stop(self, owner: str) -> None:
        """End what waits or is under way for this owner, at once and on the device too."""
        super().stop(owner)
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
