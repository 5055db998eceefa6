"""A fenced transaction: commands that are done together or not at all, and only if a key has not changed.

It takes two round trips: a look, which begins the watch, and the commands. It takes only one if the caller
has looked before. redis-py's own transaction takes a round trip for each command under a watch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from microbatch.broker.transport.connection import translated
from microbatch.broker.transport.request import Command, Replies, command, commands, transaction
from microbatch.broker.transport.round_trip import receive, round_trip, send


class FencedTransaction:
    """A transaction on one connection. Made by `fenced`. Raises Unavailable, InDoubt and Refused."""

    def __init__(self, pool: redis.ConnectionPool, where: str, connection: Any) -> None:
        self._pool = pool
        self._where = where
        self._connection = connection
        self.watching = False
        """Whether a look has begun a watch that has not ended."""

    def look(self, key: str, *others: Command) -> Replies:
        """Watch ``key``, which must not change from now on. Returns the replies to the other commands."""
        self.watching = True
        with translated(self._pool, self._where):
            return round_trip(self._connection, commands(("WATCH", key), *others))[1:]

    def execute(self, *several: Command) -> Replies | None:
        """Do these commands. Returns their replies, or None if the key has changed and nothing was done."""
        request = transaction(*several)
        with translated(self._pool, self._where):
            send(self._connection, request)
            self.watching = False  # EXEC ends the watch in any case
            try:
                return receive(self._connection, request)
            except redis.WatchError:
                return None


@contextmanager
def fenced(pool: redis.ConnectionPool, where: str, watching: Any = None) -> Iterator[FencedTransaction]:
    """A transaction for the block of a ``with``.

    With a ``watching`` connection, no look is needed. The connection stays with the caller that began the
    watch. So does the watch, if nothing is done.
    """
    if watching is not None:
        yield FencedTransaction(pool, where, watching)
        return
    with translated(pool, where):
        connection = pool.get_connection()
    transaction = FencedTransaction(pool, where, connection)
    try:
        yield transaction
    finally:
        with translated(pool, where):
            try:
                if transaction.watching and connection.is_connected:
                    round_trip(connection, command("UNWATCH"))
            finally:
                pool.release(connection)
