"""The reply stream of one client: the outcomes of the events that it waits for.

The client makes the stream, and keeps it from expiring by reading it. The scripts that end a batch only add
replies to it. So the stream of a client that has gone disappears, and nothing is added for it any more.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from microbatch.broker.errors import InDoubt, Unavailable
from microbatch.broker.policy.timing import Timing
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.connection import BLOCK_SECONDS
from microbatch.broker.transport.request import Replies, Request, Steps, command, each, good, transaction
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.reply import numbers_of

_MOST_ENTRIES = 100  # in one read: results may be large, and many replies may wait for a client that was away
Found = list[tuple[int, bytes]]
"""Replies: the number of each event, and what became of it, as `wire.reply` encodes it."""


class ReplyStream(Verbs[S_co]):
    """One client's stream. It has an id of its own, so a stream that is lost is never made again.

    ``ttl_ms``: how long the client may not read before its stream is gone.
    """

    def __init__(self, server: S_co, keys: Keys, ttl_ms: int = Timing.reply_ttl_ms) -> None:
        super().__init__(server)
        self._ttl_ms = ttl_ms
        self._longest_read_ms = min(int(BLOCK_SECONDS * 1000), ttl_ms // 4)
        self.client = secrets.token_hex(8)
        self._key = keys.reply(self.client)
        self._seen: bytes | str = "0-0"
        self._read_at = time.monotonic()

    @verb
    def open(self) -> Steps[None]:
        """Make the stream. Before the first event that names it is recorded.

        Raises ServerError; never InDoubt, because no event names a stream of which it is unknown whether it
        was made.
        """
        made = ("XADD", self._key, "*", "open", 1), ("PEXPIRE", self._key, self._ttl_ms)
        try:
            self._seen, _ = yield from transaction(*made)
        except InDoubt as error:
            raise Unavailable(f"no stream for replies could be made: {error}") from error

    @verb
    def read(self, wait_ms: int | None = None) -> Request[Found | None]:
        """The next replies, waiting for them up to ``wait_ms``. None if the stream is gone.

        By default it waits for as long as it may: up to 5 seconds, and a quarter of the stream's own time.
        It waits for nothing if the call before was long ago, as in a process that was frozen meanwhile.

        What the call before returned is deleted from the stream.
        """
        longest, now = self._longest_read_ms, time.monotonic()
        if (now - self._read_at) * 1000 > self._ttl_ms / 2:
            longest = 1  # the stream may be gone, and events that name it get no reply: find out at once
        self._read_at = now
        block = longest if wait_ms is None else max(1, min(wait_ms, longest))
        # XREAD is the first: a listener can end the wait only before it has read any reply.
        read = (
            ("XREAD", "COUNT", _MOST_ENTRIES, "BLOCK", block, "STREAMS", self._key, self._seen),
            ("PEXPIRE", self._key, self._ttl_ms),
            ("XTRIM", self._key, "MINID", self._seen),
        )
        return each(*read).then(self._found)

    @verb
    def close(self) -> Request[Any]:
        """Delete the stream."""
        return command("UNLINK", self._key)

    def _found(self, replies: Replies) -> Found | None:
        if str(replies[0]).startswith("WRONGTYPE"):
            return None  # another program has put something else in its place
        read, is_there, _ = good(replies)
        if not (read or is_there):
            return None
        entries: Sequence[tuple[bytes, list[bytes]]] = read[0][1] if read else ()
        found: Found = []
        for entry_id, pairs in entries:
            self._seen = entry_id
            for field, value in zip(pairs[::2], pairs[1::2], strict=True):
                found += ((number, value) for number in numbers_of(field))
        return found
