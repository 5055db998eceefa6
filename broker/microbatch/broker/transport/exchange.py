"""An exchange: commands out and replies in, in one round trip, on one connection.

redis-py's client does much for each command that is of no use on the path of every event and batch: it
looks up how to read the reply, counts, and packs argument by argument. Here none of it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from hiredis import pack_command

Value = str | bytes | int | float


def pack(*commands: Sequence[Value]) -> bytes:
    """Commands as they are sent."""
    return b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]


def exchange(connection: Any, commands: Sequence[Sequence[Value]]) -> list[Any]:
    """Send commands, and return their replies as the server gives them.

    A refused one has its error in its reply's place. Raises redis-py's errors if the connection breaks; then
    it is closed, so that a reply which comes late is not taken for another's.
    """
    packed = pack(*commands)
    try:
        connection.send_packed_command([packed])
        return [read(connection) for _ in commands]
    except BaseException:
        connection.disconnect()
        raise


def read(connection: Any) -> Any:
    """The next reply; an error, if it is one. Raises redis-py's errors if the connection breaks."""
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def good(replies: Sequence[Any]) -> Sequence[Any]:
    """The replies. Raises the first that is an error."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
