"""A command that was sent and whose reply was not read yet."""

from __future__ import annotations

from typing import Any

import redis

from microbatch.broker.transport.connection import renew_after, translate
from microbatch.broker.transport.exchange import read


class PendingReply:
    """A command on its way to the server, and the connection that its reply comes over.

    Commands may go with it that are only hints: ``hints`` is how many, packed behind it.

    Raises:
        Unavailable: there is no connection; nothing was sent.
        InDoubt: it broke, while the command was sent or before its reply.
        Refused: the server answered with an error.
    """

    def __init__(self, pool: redis.ConnectionPool, where: str, packed: bytes, hints: int = 0) -> None:
        self._pool = pool
        self._where = where
        self._hints = hints
        self.hint_lost: Exception | None = None
        """After the reply: why a hint has not come through, if so."""
        try:
            self._connection = pool.get_connection()
            try:
                self._connection.send_packed_command([packed])
            except BaseException:
                pool.release(self._connection)
                raise
        except (redis.RedisError, OSError) as error:
            renew_after(error, pool)
            raise translate(error, where) from error

    def reply(self) -> Any:
        """Wait for the command's reply, and return it. To be called once."""
        connection = self._connection
        try:
            reply = read(connection)
            self._read_hints()
        except BaseException as error:
            connection.disconnect()  # a reply that was not read would be taken for another's
            if isinstance(error, (redis.RedisError, OSError)):
                renew_after(error, self._pool)
                raise translate(error, self._where) from error
            raise
        finally:
            self._pool.release(connection)
        if isinstance(reply, Exception):
            renew_after(reply, self._pool)
            raise translate(reply, self._where) from reply
        return reply

    def _read_hints(self) -> None:
        """A hint may be a transaction, whose errors are in the reply of its end."""
        try:
            for _ in range(self._hints):
                reply = read(self._connection)
                for error in reply if isinstance(reply, list) else [reply]:
                    if isinstance(error, Exception):
                        self.hint_lost = self.hint_lost or translate(error, self._where)
        except (redis.RedisError, OSError) as error:
            self._connection.disconnect()
            self.hint_lost = translate(error, self._where)
