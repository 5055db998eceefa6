"""One clock for all hosts: the server's.

Due times and the tick grid are compared across hosts, so they are all told in the server's time.
Between two looks at it a host's own monotonic clock counts on.
"""

from __future__ import annotations

import time
from typing import Protocol

from microbatch.broker.transport.request import Request, Steps, command
from microbatch.broker.transport.verb import S_co, Verbs, verb


def server_time() -> Request[float]:
    """The server's time, in Unix milliseconds."""
    return command("TIME").then(lambda reply: int(reply[0]) * 1000 + int(reply[1]) / 1000)


class TimeSource(Protocol):
    """What tells the time to a verb."""

    def reading(self) -> Steps[int]:
        """What is asked to tell the time: Unix time in milliseconds."""
        ...


class Clock(TimeSource, Protocol):
    """What tells the time. Tests pass one that they move by hand."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def look_again(self) -> None:
        """Have the next `now_ms` tell what the server says then, and not count on from before."""
        ...


class ServerClock(Verbs[S_co]):
    """The server's time, asked for every ``seconds`` at most. Raises ServerError when it can't be asked."""

    def __init__(self, server: S_co, seconds: float = 1.0) -> None:
        super().__init__(server)
        self._seconds = seconds
        self._offset_ms = 0.0
        self._ask_at = 0.0

    @verb
    def now_ms(self) -> Steps[int]:
        """Unix time in milliseconds."""
        return self.reading()

    def reading(self) -> Steps[int]:
        """What is asked to tell the time; nothing, if that was asked not long ago."""
        now = time.monotonic()
        if now >= self._ask_at:
            at_ms = yield from server_time()
            middle = (now + time.monotonic()) / 2
            self._offset_ms = at_ms - middle * 1000
            now = time.monotonic()
            self._ask_at = now + self._seconds
        return int(now * 1000 + self._offset_ms)

    def look_again(self) -> None:
        """Ask the server the next time."""
        self._ask_at = 0.0
