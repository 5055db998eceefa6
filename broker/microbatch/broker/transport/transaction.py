"""A fenced transaction: commands that are done together or not at all, and only while a key stays as it was.

In two round trips: a look, which begins the watch, and the commands. redis-py's own transaction takes one
for each thing that is asked for under a watch. It is one round trip where somebody has looked before.
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
        """Whether a look has begun a watch that goes on."""

    def look(self, key: str, *others: Command) -> Replies:
        """From now on ``key`` may not change. Returns the replies to the other commands."""
        self.watching = True
        with translated(self._pool, self._where):
            return round_trip(self._connection, commands(("WATCH", key), *others))[1:]

    def execute(self, *several: Command) -> Replies | None:
        """Do these commands. Returns their replies; None if the key has changed: then nothing was done."""
        request = transaction(*several)
        with translated(self._pool, self._where):
            send(self._connection, request)
            self.watching = False  # EXEC ends the watch, whatever comes of it
            try:
                return receive(self._connection, request)
            except redis.WatchError:
                return None


@contextmanager
def fenced(pool: redis.ConnectionPool, where: str, watching: Any = None) -> Iterator[FencedTransaction]:
    """A transaction for the block of a ``with``.

    A ``watching`` connection needs no look. It stays with the caller that began the watch, and so does the
    watch if nothing is done.
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
