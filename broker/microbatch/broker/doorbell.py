"""The doorbell: how the active scheduler waits for a wake-up, and for a tick, at once.

A server ends a blocking read up to 100 ms late, when its own housekeeping comes round. So the
read stays open at the server and the waiting is done here, on the socket, to the millisecond.
"""

from __future__ import annotations

from typing import Any, Protocol

import redis

from microbatch.broker.connection import BLOCK_SECONDS
from microbatch.broker.events import Wake
from microbatch.broker.keys import Keys
from microbatch.broker.server import Server

_WORDS = {word.value.encode(): word for word in Wake}


class Doorbell(Protocol):
    """What a scheduler waits at. Tests pass one that they ring by hand."""

    def wait(self, seconds: float) -> Wake | None:
        """Wait for a wake-up, for so long at most."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class ServerDoorbell:
    """The wake list of one batcher, read on a connection of its own. For one thread."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._key = keys.wake
        self._connection: Any = None
        self._listening = False

    def wait(self, seconds: float) -> Wake | None:
        """Wait for a wake-up, for so long at most. Raises ServerError if the connection breaks."""
        with self._server.translated():
            try:
                return self._wait(seconds)
            except (redis.RedisError, OSError):
                self.close()
                raise

    def _wait(self, seconds: float) -> Wake | None:
        if self._connection is None:
            self._connection = self._server.client.connection_pool.get_connection()
        if not self._listening:
            self._connection.send_command("BLPOP", self._key, BLOCK_SECONDS)
            self._listening = True
        if not self._connection.can_read(timeout=max(seconds, 0.0)):
            return None
        self._listening = False
        reply = self._connection.read_response()
        if reply is None:
            return None
        return _WORDS.get(reply[1], Wake.LOOK)

    def close(self) -> None:
        """Stop listening: the server forgets the read with its connection."""
        if self._connection is not None:
            self._connection.disconnect()
            self._server.client.connection_pool.release(self._connection)
        self._connection, self._listening = None, False
