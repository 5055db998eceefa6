"""The drain: waiting for the end of something without asking over and over.

A stream that exists only while somebody waits. Whatever may bring an end nearer (a cut, a commit, a
batch given up, a result handled) adds an entry to it when it exists, so a plain blocking read of it
wakes every waiter. Its expiry clears it away when the waiters are gone.
"""

from __future__ import annotations

from typing import Any

from microbatch.broker.connection import BLOCK_SECONDS
from microbatch.broker.keys import Keys
from microbatch.broker.server import Server

_EXPIRY_MS = 60_000


class Drain:
    """One waiter's side of a batcher's drain."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._key = keys.drain
        self._seen = "0-0"

    def open(self) -> None:
        """Make sure that what happens from now on is noted, and remember how far it has been seen."""
        entry, _ = self._server.many(
            ("XADD", self._key, "MAXLEN", 1, "*", "waiting", 1),
            ("PEXPIRE", self._key, _EXPIRY_MS),
            transaction=True,
        )
        self._seen = entry.decode() if isinstance(entry, bytes) else entry

    def wait(self, wait_ms: int) -> bool:
        """Wait until something has happened since the last look, up to ``wait_ms`` (at most 5,000)."""
        block = min(max(wait_ms, 1), int(BLOCK_SECONDS * 1000))
        reply: Any = self._server.do("XREAD", "BLOCK", block, "STREAMS", self._key, self._seen)
        if not reply:
            if not self._server.do("PEXPIRE", self._key, _EXPIRY_MS):
                self.open()
            return False
        last = reply[0][1][-1][0]
        self._seen = last.decode() if isinstance(last, bytes) else last
        return True
