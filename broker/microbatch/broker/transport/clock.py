"""One clock for all hosts: the server's.

Due times and the tick grid are compared across hosts, so they are all told in the server's time.
Between two looks at it a host's own monotonic clock counts on.
"""

from __future__ import annotations

import time
from typing import Protocol

from microbatch.broker.transport.server import Server

_LOOK_AGAIN_SECONDS = 1.0


class Clock(Protocol):
    """What tells the time. Tests pass one that they move by hand."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def look_again(self) -> None:
        """Have the next `now_ms` tell what the server says then, and not count on from before."""
        ...


class ServerClock:
    """The server's time, asked for at most once a second. Raises ServerError when it can't be asked."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._offset_ms = 0.0
        self._asked_at = -_LOOK_AGAIN_SECONDS

    def now_ms(self) -> int:
        now = time.monotonic()
        if now - self._asked_at >= _LOOK_AGAIN_SECONDS:
            seconds, micros = self._server.do("TIME")
            middle = (now + time.monotonic()) / 2
            self._offset_ms = int(seconds) * 1000 + int(micros) / 1000 - middle * 1000
            self._asked_at = now = time.monotonic()
        return int(now * 1000 + self._offset_ms)

    def look_again(self) -> None:
        self._asked_at = -_LOOK_AGAIN_SECONDS
