"""The listener for asyncio: blocking commands, and a way to end their wait."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

import redis

from microbatch.broker.transport.async_server import AsyncServer, perform_async, round_trip_async
from microbatch.broker.transport.request import Request, Steps, command

T = TypeVar("T")

_UNBLOCK_SECONDS = 0.01


class AsyncListener:
    """A separate connection for commands that block at the server. For one task at a time.

    Only `wake` may be called by other tasks of the same event loop.
    """

    def __init__(self, server: AsyncServer) -> None:
        self._server = server
        self._woken = asyncio.Event()
        self._connection: Any = None
        self._client_id = 0
        self.wake = self._woken.set
        """End the present wait, or the next one."""
        self.clear = self._woken.clear
        """Forget all calls of `wake` so far. The caller must then look at what it was woken for."""

    async def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until it is woken."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._woken.wait()

    async def perform(self, asked: Request[T] | Steps[T]) -> T:
        """Perform requests that may block at the server for up to 5 seconds, and return their answer.

        If the listener is woken meanwhile, the server is told to answer at once.

        Raises:
            ServerError: as from `AsyncServer`. The next call makes a new connection.
        """
        return await perform_async(self._perform, asked)

    async def close(self) -> None:
        """Return the connection to the pool, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._server.release(connection)

    async def _perform(self, request: Request[T]) -> T:
        try:
            return await self._ended_by_a_wake(await self._connected(), request)
        except (redis.RedisError, OSError) as error:
            await self.close()
            raise await self._server.translated(error) from error
        except BaseException:
            await self.close()
            raise

    async def _connected(self) -> Any:
        if self._connection is None:
            self._connection = await self._server.connected()
            self._client_id = await round_trip_async(self._connection, command("CLIENT", "ID"))
        return self._connection

    async def _ended_by_a_wake(self, connection: Any, request: Request[T]) -> T:
        asking = asyncio.ensure_future(round_trip_async(connection, request))
        waking = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait((asking, waking), return_when=asyncio.FIRST_COMPLETED)
            # The command may not have reached the server yet. Then there is nothing to unblock.
            while not asking.done():
                await self._server.perform(command("CLIENT", "UNBLOCK", self._client_id))
                await asyncio.wait((asking,), timeout=_UNBLOCK_SECONDS)
            return asking.result()
        finally:
            for task in (asking, waking):
                task.cancel()  # which closes the connection, if its reply has not been read
            await asyncio.gather(asking, waking, return_exceptions=True)
