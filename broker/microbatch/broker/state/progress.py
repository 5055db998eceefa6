"""The progress stream: waits for the end of work without polling.

The stream exists only while somebody waits. Every script that may bring an end nearer (a cut, a commit, a
burial, a handled result) adds an entry if the stream exists. So a blocking read of the stream wakes every
waiter. The stream expires when the waiters are gone.
"""

from __future__ import annotations

import time
from typing import Any

from microbatch.broker.errors import Refused
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.connection import BLOCK_SECONDS
from microbatch.broker.transport.request import Command, Replies, Request, Steps, command, transaction
from microbatch.broker.transport.verb import S_co, Verbs, verb

_EXPIRY_MS = 60_000
_LAST_ID = "18446744073709551615-18446744073709551615"
_USED_UP = "exhausted the last possible ID"


class Progress(Verbs[S_co]):
    """One waiter's side of a batcher's progress stream.

    To miss nothing, repeat these steps in this order: `open`, look whether the end is reached, `wait`.

    Args:
        server: the server that has the stream.
        keys: the batcher's keys.
        renew_seconds: `open` opens the stream again if its last opening is older.
    """

    def __init__(self, server: S_co, keys: Keys, renew_seconds: float = _EXPIRY_MS / 1000 / 2) -> None:
        super().__init__(server)
        self._renew_seconds = renew_seconds
        self._key = keys.progress
        self._seen = "0-0"
        self._renew_at = 0.0

    @verb
    def open(self) -> Steps[None]:
        """Make sure that what happens from now on is noted. Call it before each look; it is cheap.

        If a waiter was busy with something else for a minute, the stream has expired, and what happened in
        the meantime was not noted.
        """
        now = time.monotonic()
        if now < self._renew_at:
            return
        try:
            entry, _ = yield from self._make()
        except Refused as error:
            if _USED_UP not in str(error):
                raise
            # Somebody has written the last possible id. The stream contains nothing that is needed.
            _, entry, _ = yield from self._make(("PEXPIRE", self._key, 0))
        self._seen, self._renew_at = _text(entry), now + self._renew_seconds

    def _make(self, *before: Command) -> Request[Replies]:
        return transaction(
            *before,
            ("XADD", self._key, "MAXLEN", 1, "*", "waiting", 1),
            ("PEXPIRE", self._key, _EXPIRY_MS),
        )

    @verb
    def wait(self, wait_ms: int) -> Steps[bool]:
        """Wait until something has happened since the last look, for up to ``wait_ms`` (at most 5,000)."""
        block = min(max(wait_ms, 1), int(BLOCK_SECONDS * 1000))
        reply: Any = yield from command("XREAD", "BLOCK", block, "STREAMS", self._key, self._seen)
        if reply:
            self._seen = _text(reply[0][1][-1][0])
            if self._seen == _LAST_ID:  # the stream accepts no further entry
                self._renew_at = 0.0
        elif not (yield from command("PEXPIRE", self._key, _EXPIRY_MS)):
            self._renew_at = 0.0  # it is gone
        return bool(reply)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
