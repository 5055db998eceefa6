"""A member's task: drives a membership with a connection for its blocking commands and a heartbeat."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from microbatch.broker.broker import AsyncBroker
from microbatch.broker.transport.async_listener import AsyncListener
from microbatch.broker.transport.async_server import AsyncServer
from microbatch.broker.transport.request import Request
from microbatch.producer.drain import Drain
from microbatch.producer.handlers import Handlers
from microbatch.producer.member import Member
from microbatch.producer.work import Call, Listen, Move, Pause, drive_async

Handle = Callable[[Call], Awaitable[object]]
"""Has one result or failure handled, and returns when it is."""


class MemberTask:
    """One membership, for one task of the client at a time.

    Args:
        broker: the batcher's.
        handlers: what is called with results and failures.
        acknowledge_seconds: see `Member`.
    """

    def __init__(
        self,
        broker: AsyncBroker,
        handlers: Handlers[AsyncServer],
        *,
        acknowledge_seconds: float | None = None,
    ) -> None:
        self._server = broker.server
        self._listener = AsyncListener(broker.server)
        self._member = Member(broker, handlers, self._listener.clear, acknowledge_seconds=acknowledge_seconds)
        self.wake = self._listener.wake

    async def run(
        self,
        handle: Handle,
        is_told: Callable[[], bool],
        drain: Callable[[], Drain[AsyncServer] | None],
        until: float,
    ) -> bool:
        """Do `Member.run` in this task."""
        heartbeat = asyncio.ensure_future(self._beat())
        try:
            return await drive_async(self._member.run(is_told, drain, until), partial(self._make, handle))
        finally:
            heartbeat.cancel()
            await asyncio.wait((heartbeat,))

    async def leave(self) -> None:
        """Do `Member.leave` in this task, and return the connection to the pool."""
        await self._listener.close()
        await drive_async(self._member.leave(), partial(self._make, _handle_nothing))

    async def _make(self, handle: Handle, move: Move) -> Any:
        match move:
            case Request():
                return await self._server.perform(move)
            case Call():
                return await handle(move)
            case Listen():
                return await self._listener.perform(move.asked)
            case Pause():
                return await self._listener.pause(move.seconds)

    async def _beat(self) -> None:
        heart = self._member.heartbeat
        while True:
            await asyncio.sleep(heart.seconds)
            try:
                await heart.beat()
            except Exception:  # noqa: BLE001 - a handler of the app's log may raise anything
                traceback.print_exc()


async def _handle_nothing(_call: Call) -> None:
    """A member that leaves calls no handler."""
