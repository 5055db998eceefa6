"""A request that was sent and whose answer was not read yet."""

from __future__ import annotations

from typing import Generic, TypeVar

import redis

from microbatch.broker.transport.connection import renew_after, translate
from microbatch.broker.transport.request import Request
from microbatch.broker.transport.round_trip import receive, send

T = TypeVar("T")


class PendingReply(Generic[T]):
    """A request on its way to the server, and the connection that its answer comes over.

    Raises:
        Unavailable: there is no connection; nothing was sent.
        InDoubt: it broke, while the request was sent or before its answer.
        Refused: the server answered with an error.
    """

    def __init__(self, pool: redis.ConnectionPool, where: str, request: Request[T]) -> None:
        self._pool = pool
        self._where = where
        self._request = request
        try:
            self._connection = pool.get_connection()
            try:
                send(self._connection, request)
            except BaseException:
                pool.release(self._connection)
                raise
        except (redis.RedisError, OSError) as error:
            renew_after(error, pool)
            raise translate(error, where) from error

    def reply(self) -> T:
        """Wait for the answer, and return it. To be called once."""
        try:
            return receive(self._connection, self._request)
        except (redis.RedisError, OSError) as error:
            renew_after(error, self._pool)
            raise translate(error, self._where) from error
        finally:
            self._pool.release(self._connection)
