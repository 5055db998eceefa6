"""Sent: one command between its sending and its reply, so that something else can be done meanwhile."""

from __future__ import annotations

from typing import Any

import redis

from microbatch.broker.connection import translate


class Sent:
    """A command on its way to the server, and the connection that its reply comes over.

    Raises:
        Unavailable: there is no connection; nothing was sent.
        InDoubt: it broke, while the command was sent or before the reply.
        Refused: the server answered with an error.
    """

    def __init__(self, pool: redis.ConnectionPool, where: str, packed: bytes) -> None:
        self._pool = pool
        self._where = where
        try:
            self._connection = pool.get_connection()
            try:
                self._connection.send_packed_command([packed])
            except BaseException:
                pool.release(self._connection)
                raise
        except (redis.RedisError, OSError) as error:
            raise translate(error, where) from error

    def reply(self) -> Any:
        """Wait for the reply, and return it. To be called once."""
        connection = self._connection
        try:
            return connection.read_response()
        except redis.ResponseError as error:
            raise translate(error, self._where) from error
        except BaseException as error:
            connection.disconnect()  # a reply that was not read would be taken for another's
            if isinstance(error, (redis.RedisError, OSError)):
                raise translate(error, self._where) from error
            raise
        finally:
            self._pool.release(connection)
