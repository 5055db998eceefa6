"""The wake listener: the active scheduler waits for a wake-up and for a tick at the same time.

A server ends a blocking read up to 100 ms late, in its next round of housekeeping. So the read stays open at
the server, and the listener waits on the socket, to the millisecond.

A server performs the commands that were sent behind a blocking read as soon as the read is over. So when the
scheduler is woken, the same reply has what a cut must look at first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from microbatch.broker.state.due import WITH_A_JOB
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.connection import BLOCK_SECONDS
from microbatch.broker.transport.request import commands
from microbatch.broker.transport.round_trip import receive, send
from microbatch.broker.transport.server import Server

_WORDS = {word.value.encode(): word for word in Wake}


@dataclass(frozen=True, slots=True)
class LeaseWatch:
    """What was seen at a wake-up, on a connection that has watched the lease since then."""

    holder: bytes | None
    """The token of the active scheduler."""
    waiting: int
    """How many events waited."""
    connection: Any
    with_a_job: int | None = None
    """How many batches were queued or running; None if they were not counted."""


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A wake-up."""

    word: Wake
    watch: LeaseWatch | None = None


class WakeListener(Protocol):
    """What a scheduler waits on. Tests pass one that they wake by hand."""

    def wait(self, seconds: float) -> Wakeup | None:
        """Wait for a wake-up, for at most ``seconds``."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class ServerWakeListener:
    """The wake list of one batcher, read on a connection of its own. For one thread.

    A wake-up's watch is valid for one transaction on its connection, before the next `wait`.

    Args:
        server: the server that has the list.
        keys: the batcher's keys.
        block_seconds: how long one read stays open; 0 for no limit.
        counts_jobs: whether a wake-up's watch has the number of batches that are queued or running.
    """

    def __init__(
        self,
        server: Server,
        keys: Keys,
        block_seconds: float = BLOCK_SECONDS,
        *,
        counts_jobs: bool = False,
    ) -> None:
        self._server = server
        # The connection may still watch since the previous wake-up, if nothing was done then.
        look = ("UNWATCH",), ("WATCH", keys.lease), ("GET", keys.lease), ("LLEN", keys.events)
        count = [("ZCOUNT", keys.inflight, *WITH_A_JOB)] if counts_jobs else []
        self._listen = commands(("BLPOP", keys.wake, block_seconds), *look, *count)
        self._connection: Any = None
        self._listening = False

    def wait(self, seconds: float) -> Wakeup | None:
        """Wait for a wake-up, for at most ``seconds``. Raises ServerError if the connection breaks."""
        with self._server.translated():
            try:
                return self._wait(seconds)
            except BaseException:  # the next wait would read unread replies as its own
                self.close()
                raise

    def _wait(self, seconds: float) -> Wakeup | None:
        if self._connection is None:
            self._connection = self._server.client.connection_pool.get_connection()
        connection = self._connection
        if not self._listening:
            send(connection, self._listen)
            self._listening = True
        if not connection.can_read(timeout=max(seconds, 0.0)):
            return None
        self._listening = False
        word, _, _, holder, waiting, *with_a_job = receive(connection, self._listen)
        if word is None:
            return None
        watch = LeaseWatch(holder, waiting, connection, *with_a_job)
        return Wakeup(_WORDS.get(word[1], Wake.RECONCILE), watch)

    def close(self) -> None:
        """Stop listening. The server drops the read with its connection."""
        if self._connection is not None:
            self._connection.disconnect()
            self._server.client.connection_pool.release(self._connection)
        self._connection, self._listening = None, False
