"""A request that was sent and whose answer has not been read yet."""

from __future__ import annotations

from typing import Generic, TypeVar

import redis

from microbatch.broker.transport.connection import translated
from microbatch.broker.transport.request import Request
from microbatch.broker.transport.round_trip import receive, send

T = TypeVar("T")


class PendingReply(Generic[T]):
    """A request on its way to the server, and the connection that will receive its answer.

    Raises:
        Unavailable: there is no connection; nothing was sent.
        InDoubt: the connection broke while the request was sent, or before its answer.
        Refused: the server answered with an error.
    """

    def __init__(self, pool: redis.ConnectionPool, where: str, request: Request[T]) -> None:
        self._pool = pool
        self._where = where
        self._request = request
        with translated(pool, where):
            self._connection = pool.get_connection()
            try:
                send(self._connection, request)
            except BaseException:
                pool.release(self._connection)
                raise

    def reply(self) -> T:
        """Wait for the answer, and return it. Must be called exactly once."""
        with translated(self._pool, self._where):
            try:
                return receive(self._connection, self._request)
            finally:
                self._pool.release(self._connection)
