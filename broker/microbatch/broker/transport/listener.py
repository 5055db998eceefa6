"""The listener: blocking commands, and a way to end their wait from another thread.

A signal handler may end a wait of the same thread that it interrupts. If that took a lock, as in
`threading.Event`, the thread could wait for a lock that it holds itself. So a byte in a pipe ends a wait.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from contextlib import suppress
from typing import Any, TypeVar

import redis

from microbatch.broker.transport.connection import REPLY_SECONDS
from microbatch.broker.transport.request import Request, Steps, command
from microbatch.broker.transport.round_trip import receive, round_trip, send
from microbatch.broker.transport.server import Server, perform_by

T = TypeVar("T")

_UNBLOCK_SECONDS = 0.01


class Interrupt:
    """Ends the waits of one thread. Safe to `wake` from any thread and from a signal handler."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        weakref.finalize(self, _close, self._reader, self._writer).atexit = False

    def wake(self) -> None:
        """End the present wait, or the next one."""
        with suppress(BlockingIOError):  # the pipe is full, because it was not cleared for long
            os.write(self._writer, b"\0")

    def clear(self) -> None:
        """Forget all calls of `wake` so far. The caller must then look at what it was woken for."""
        with suppress(BlockingIOError):
            while os.read(self._reader, 4096):
                pass

    @property
    def is_awake(self) -> bool:
        """Whether `wake` was called since `clear`."""
        return bool(_readable(0, self._reader))

    def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until it is woken."""
        _readable(seconds, self._reader)

    def wait_for(self, descriptor: int, seconds: float) -> bool:
        """Wait for up to ``seconds``, or until it is woken. Returns whether ``descriptor`` can be read."""
        return descriptor in _readable(seconds, self._reader, descriptor)


class Listener:
    """A separate connection for commands that block at the server. For one thread at a time.

    Only `wake` may be called from other threads.

    ``reply_seconds``: how long it waits for a reply before it takes the connection for dead.
    """

    def __init__(self, server: Server, reply_seconds: float = REPLY_SECONDS) -> None:
        self._server = server
        self._reply_seconds = reply_seconds
        self._interrupt = Interrupt()
        self._connection: Any = None
        self._client_id = 0
        self.wake = self._interrupt.wake
        self.clear = self._interrupt.clear
        self.pause = self._interrupt.pause

    def perform(self, asked: Request[T] | Steps[T]) -> T:
        """Perform requests that may block at the server for up to 5 seconds, and return their answer.

        If the listener is woken meanwhile, the server is told to answer at once.

        Raises:
            ServerError: as from `Server`. The next call makes a new connection.
        """
        return perform_by(self._perform, asked)

    def _perform(self, request: Request[T]) -> T:
        with self._server.translated():
            try:
                connection = self._connected()
                send(connection, request)
                self._wait_for_reply(_descriptor(connection))
                return receive(connection, request)
            except BaseException:
                if self._connection is not None:
                    self._connection.disconnect()  # the next request would read an unread reply as its own
                self.close()
                raise

    def close(self) -> None:
        """Return the connection to the pool, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._server.client.connection_pool.release(connection)

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = self._server.client.connection_pool.get_connection()
            self._client_id = round_trip(self._connection, command("CLIENT", "ID"))
        return self._connection

    def _wait_for_reply(self, descriptor: int) -> None:
        if self._interrupt.wait_for(descriptor, self._reply_seconds):
            return
        if not self._interrupt.is_awake:
            raise self._silence()
        # The command may not have reached the server yet. Then there is nothing to unblock.
        give_up_at = time.monotonic() + self._reply_seconds
        while not _readable(_UNBLOCK_SECONDS, descriptor):
            if time.monotonic() > give_up_at:  # the connection is dead, and only this one
                raise self._silence()
            self._server.do("CLIENT", "UNBLOCK", self._client_id)

    def _silence(self) -> redis.TimeoutError:
        return redis.TimeoutError(f"no reply for {self._reply_seconds:g} s")


def _readable(seconds: float, *descriptors: int) -> list[int]:
    poll = select.poll()  # select() accepts no descriptor from 1,024 on
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(seconds, 0) * 1000)]


def _descriptor(connection: Any) -> int:
    return int(connection._get_socket().fileno())  # noqa: SLF001 - redis-py has no public way


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
