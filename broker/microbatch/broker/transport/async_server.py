"""One server, for asyncio: it performs the same requests as `Server`, without a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import redis

from microbatch.broker.errors import MicrobatchError, ServerError
from microbatch.broker.transport.async_pool import Pool, open_pool
from microbatch.broker.transport.connection import (
    CONNECT_SECONDS,
    REPLY_SECONDS,
    NotSent,
    means_lost,
    translate,
)
from microbatch.broker.transport.request import Request, Steps, info, pack
from microbatch.broker.transport.round_trip import unknown_scripts
from microbatch.broker.transport.url import safe_url
from microbatch.broker.transport.version import refuse_unsupported

T = TypeVar("T")


class AsyncServer:
    """A pool of connections to one server. For one event loop.

    No request is ever sent twice. If a task is cancelled while it waits for a reply, its connection is
    closed, and its request may or may not have been done. Every method raises as `Server` does.
    """

    def __init__(self, pool: Pool, where: str, url: str | None = None) -> None:
        self._pool = pool
        self.where = where
        self._url = url

    @classmethod
    def at(cls, url: str, reply_seconds: float = REPLY_SECONDS) -> AsyncServer:
        """The server at ``url``. Nothing is sent yet. Raises ConfigError if the URL is malformed."""
        return cls(open_pool(url, reply_seconds), safe_url(url), url)

    async def perform(self, asked: Request[T] | Steps[T]) -> T:
        """Perform a request, or several one after another, and return the answer."""
        return await perform_async(self._perform, asked)

    async def check_version(self) -> None:
        """Raises Unsupported unless this is Redis ≥ 7.0 or Valkey ≥ 7.2, and not in cluster mode."""
        if self._url is None:
            found = await self.perform(info("server"))
        else:
            # With a short timeout: a wrong address shows here first.
            first = AsyncServer.at(self._url, CONNECT_SECONDS)
            try:
                found = await first.perform(info("server"))
            finally:
                await first.close()
        refuse_unsupported(found, self.where)

    async def release(self, connection: Any) -> None:
        """Return a connection to the pool. Nothing that was sent on it may be unanswered."""
        await self._pool.release(connection)

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        await self._pool.disconnect()

    async def _perform(self, request: Request[T]) -> T:
        try:
            connection = await self.connected()
            try:
                return await round_trip_async(connection, request)
            finally:
                await self.release(connection)
        except (redis.RedisError, OSError) as error:
            raise await self.translated(error) from error

    async def connected(self) -> Any:
        """A connection of the pool, which the caller must `release`. Raises redis-py's errors."""
        try:
            return await self._pool.get_connection()  # type: ignore[no-untyped-call]
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            # Over a Unix socket, redis-py wraps what the server says to the handshake.
            said = error.__cause__ if isinstance(error.__cause__, redis.RedisError) else error
            if isinstance(said, redis.AuthenticationError | redis.ResponseError):
                raise said from None
            raise NotSent(str(error)) from error

    async def translated(self, error: Exception) -> ServerError:
        """Microbatch's own error for one of redis-py's."""
        if means_lost(error):
            await self._pool.drop_idle()
        return translate(error, self.where)


async def perform_async(perform: Callable[[Request[Any]], Awaitable[Any]], asked: Request[T] | Steps[T]) -> T:
    """Let ``perform`` do each request in turn, and return the answer."""
    if isinstance(asked, Request):
        first: T = await perform(asked)
        return first
    try:
        request = next(asked)
        while True:
            try:
                answer = await perform(request)
            except MicrobatchError as error:
                request = asked.throw(error)
            else:
                request = asked.send(answer)
    except StopIteration as end:
        last: T = end.value
        return last


async def round_trip_async(connection: Any, request: Request[T]) -> T:
    """Perform a request. Raises redis-py's errors. If anything goes wrong, the connection is closed."""
    try:
        await _send(connection, request.packed)
        replies = [await _read(connection) for _ in range(request.count - request.hints)]
        if request.hints:
            replies += await _hints(connection, request.hints)
        if request.calls and (texts := unknown_scripts(request.calls, replies)):
            await _send(connection, pack(*texts.values()))
            for place in texts:
                replies[place] = await _read(connection)
    except BaseException:
        # Otherwise the next request on this connection would read a late reply as its own.
        await connection.disconnect(nowait=True)
        raise
    return request.decode(replies)


async def _send(connection: Any, packed: bytes) -> None:
    """redis-py sends by `asyncio.wait_for`, which may lose a cancellation before Python 3.12."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    await connection.send_packed_command([packed])
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError


async def _read(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.ResponseError as error:
        return error


async def _hints(connection: Any, count: int) -> list[Any]:
    replies: list[Any] = []
    try:
        while len(replies) < count:
            replies.append(await _read(connection))
    except (redis.RedisError, OSError) as error:
        await connection.disconnect(nowait=True)
        replies += [error] * (count - len(replies))
    return replies
