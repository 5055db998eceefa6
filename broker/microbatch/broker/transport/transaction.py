"""A fenced transaction: commands that are done together or not at all, and only while a key stays as it was.

In two round trips: a look, which begins the watch, and the commands. redis-py's own transaction takes one
for each thing that is asked for under a watch. It is one round trip where somebody has looked before.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.client import Pipeline

from microbatch.broker.transport.request import Command, Replies, command, commands, transaction
from microbatch.broker.transport.round_trip import receive, round_trip, send

Transaction = Pipeline
"""Commands that are done together or not at all; RQ's own are added to them."""


class FencedTransaction:
    """A transaction on one connection, for the block of a ``with``. It raises redis-py's errors.

    A ``watching`` connection needs no look. It stays with the caller that began the watch, and so does the
    watch if nothing is done.
    """

    def __init__(self, client: redis.Redis, watching: Any = None) -> None:
        self.commands: Pipeline = client.pipeline(transaction=True)
        """Collects what is to be done; others may add theirs to it. It sends nothing by itself."""
        self._pool = client.connection_pool
        self._lent = watching is not None
        self._connection: Any = watching
        self._watching = False

    def __enter__(self) -> FencedTransaction:
        if not self._lent:
            self._connection = self._pool.get_connection()
        return self

    def look(self, key: str, *others: Command) -> Replies:
        """From now on ``key`` may not change. Returns the replies to the other commands."""
        self._watching = True
        return round_trip(self._connection, commands(("WATCH", key), *others))[1:]

    def execute(self) -> Replies:
        """Do what was collected. Returns the replies as the server gives them.

        Raises WatchError if the key has changed since the look: then nothing was done.
        """
        collected = [command for command, _ in self.commands.command_stack]
        request = transaction(*collected)
        send(self._connection, request)
        self._watching = False  # EXEC ends the watch, whatever comes of it
        return receive(self._connection, request)

    def __exit__(self, *_error: object) -> None:
        try:
            if self._watching and self._connection.is_connected:
                round_trip(self._connection, command("UNWATCH"))
        finally:
            if not self._lent:
                self._pool.release(self._connection)
