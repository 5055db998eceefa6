"""A round trip: sends a request on one connection, and reads its replies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import redis

from microbatch.broker.transport.request import Command, Replies, Request, pack

T = TypeVar("T")


def round_trip(connection: Any, request: Request[T]) -> T:
    """Perform a request. Raises redis-py's errors.

    If anything goes wrong, the connection is closed. Otherwise a later request could read a late reply as its
    own.
    """
    try:
        connection.send_packed_command([request.packed])
        replies = _replies(connection, request)
    except BaseException:
        connection.disconnect()
        raise
    return request.decode(replies)


def send(connection: Any, request: Request[Any]) -> None:
    """Send a request. Its replies must be read before the next one is sent."""
    try:
        connection.send_packed_command([request.packed])
    except BaseException:
        connection.disconnect()
        raise


def receive(connection: Any, request: Request[T]) -> T:
    """Read the replies to a request that was sent, and return its answer."""
    try:
        replies = _replies(connection, request)
    except BaseException:
        connection.disconnect()
        raise
    return request.decode(replies)


def _replies(connection: Any, request: Request[Any]) -> Replies:
    replies: list[Any] = []
    while len(replies) < request.count - request.hints:
        replies.append(read(connection))
    if request.hints:
        replies += _hints(connection, request.hints)
    if request.calls and (texts := unknown_scripts(request.calls, replies)):
        connection.send_packed_command([pack(*texts.values())])
        for place in texts:
            replies[place] = read(connection)
    return replies


def read(connection: Any) -> Any:
    """The next reply, which may be an error. Raises redis-py's errors if the connection breaks."""
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def unknown_scripts(calls: Mapping[int, Command], replies: Replies) -> dict[int, Command]:
    """The full calls of the scripts that the server does not know, by the places of their replies."""
    return {
        place: text
        for place, text in calls.items()
        if isinstance(replies[place], redis.exceptions.NoScriptError)
    }


def _hints(connection: Any, count: int) -> Replies:
    replies: list[Any] = []
    try:
        while len(replies) < count:
            replies.append(read(connection))
    except (redis.RedisError, OSError) as error:
        connection.disconnect()
        replies += [error] * (count - len(replies))
    return replies
