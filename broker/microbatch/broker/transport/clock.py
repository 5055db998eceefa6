"""One clock for all hosts: the server's.

Due times and the tick grid are compared across hosts, so all of them are in the server's time. Between two
requests for it, a host's own monotonic clock continues the count.
"""

from __future__ import annotations

import time
from typing import Protocol

from microbatch.broker.errors import InDoubt, Unavailable
from microbatch.broker.transport.request import Request, Steps, command
from microbatch.broker.transport.server import Server


def host_ms() -> int:
    """The time of this host's clock, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def server_time() -> Request[float]:
    """The server's time, in Unix milliseconds."""
    return command("TIME").then(lambda reply: int(reply[0]) * 1000 + int(reply[1]) / 1000)


class TimeSource(Protocol):
    """Tells the time to a verb."""

    def known_ms(self) -> int | None:
        """Unix time in milliseconds; None if the server must be asked first."""
        ...

    def reading(self) -> Steps[int]:
        """The requests for the time, which is Unix time in milliseconds."""
        ...


class Clock(TimeSource, Protocol):
    """Tells the time. Tests pass one that they move by hand."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def look_again(self) -> None:
        """Make the next `now_ms` ask the server, and not continue the count of its own clock."""
        ...


class ServerTime:
    """The server's time, asked for at most every ``seconds``, by the server that performs the `reading`."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._offset_ms = 0.0
        self._ask_at = 0.0

    def reading(self) -> Steps[int]:
        """The requests for the time; none if the server was asked within ``seconds``."""
        if (known := self.known_ms()) is not None:
            return known
        asked_at = time.monotonic()
        try:
            at_ms = yield from server_time()
        except InDoubt as error:  # nothing can have been done
            raise Unavailable(f"the server did not tell its time: {error}") from error
        now = time.monotonic()
        self._offset_ms = at_ms - (asked_at + now) / 2 * 1000
        self._ask_at = now + self._seconds
        return int(now * 1000 + self._offset_ms)

    def known_ms(self) -> int | None:
        """Unix time in milliseconds; None if the server was not asked within ``seconds``."""
        now = time.monotonic()
        return int(now * 1000 + self._offset_ms) if now < self._ask_at else None

    def look_again(self) -> None:
        """Make the next reading ask the server."""
        self._ask_at = 0.0


class ServerClock(ServerTime):
    """The server's time as a clock, for threads. Raises ServerError when the server can't be asked."""

    def __init__(self, server: Server, seconds: float = 1.0) -> None:
        super().__init__(seconds)
        self._server = server

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        known = self.known_ms()  # at nearly every batch
        return known if known is not None else self._server.perform(self.reading())
