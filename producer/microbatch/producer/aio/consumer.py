"""The consumer of the asyncio client: handles results in tasks of the client."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

from microbatch.broker.broker import AsyncBroker
from microbatch.broker.errors import ServerError
from microbatch.broker.process.loggable import trace
from microbatch.broker.transport.async_server import AsyncServer
from microbatch.producer.aio.home import Home
from microbatch.producer.aio.member_task import Handle, MemberTask
from microbatch.producer.drain import Drain
from microbatch.producer.handlers import Handlers
from microbatch.producer.work import Call

log = logging.getLogger(__name__)


class AsyncConsumer:
    """Handles a batcher's results. Each `wait` that runs is its own member of the group.

    Raises:
        ConfigError: a handler can't be used.
    """

    def __init__(self, broker: AsyncBroker, home: Home) -> None:
        self._broker = broker
        self._home = home
        self._name = broker.config.name
        self._drain = Drain(broker)
        self._is_stopped = self._has_quit = self._has_left = False
        self._idle = [self._member()]  # made now, so that a handler that can't be used is reported now
        self._running: dict[asyncio.Task[bool], MemberTask] = {}
        self.streams: set[Callable[[], None]] = set()
        """What closes each iterator that is open."""

    async def stop(self) -> None:
        """Have every run end when everything recorded before the first call is dealt with.

        Raises ServerError: the server could not be asked. The runs ask it again.
        """
        self._is_stopped = True
        try:
            await self._drain.ask()
        finally:
            self.wake()

    def quit(self) -> None:
        """Have every run, now and later, end as soon as its running handler has returned.

        May be called on any thread and in a signal handler.
        """
        self._has_quit = True
        self._home.call_soon(self.wake)

    def wake(self) -> None:
        """Have every run check what it was told."""
        for member in self._running.values():
            member.wake()

    async def wait(self, seconds: float | None) -> bool:
        """Call the handlers until stopped and all is handled, for up to ``seconds``, as `Consumer.run` does.

        A caller that is cancelled waits for a plain handler that is running. An async one is cancelled.
        """
        turn = _Turn()
        member = self._idle.pop() if self._idle else self._member()
        until = inf if seconds is None else time.monotonic() + seconds
        run = self._run(member, turn.call, lambda: turn.is_told, until)
        task = self._started(run, member)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            turn.is_told = True
            member.wake()
            if turn.is_calling_async:
                task.cancel()
            await asyncio.wait((task,))  # if the caller is cancelled once more, the task ends without it
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("%s: a wait that was cancelled has failed: %s", self._name, trace(error))  # noqa: TRY400
            raise
        return task.result()

    async def run_once(self, member: MemberTask, handle: Handle, is_told: Callable[[], bool]) -> None:
        """Have results handled in another way, with a member that then leaves the group."""
        await self._started(self._run(member, handle, is_told, inf, leaves=True), member)

    async def close(self, seconds: float, but: asyncio.Task[object] | None) -> None:
        """Close the iterators, and return when every run but that of the task ``but`` has ended.

        Returns after ``seconds`` at the latest.
        """
        for close in tuple(self.streams):
            close()
        if others := [task for task in self._running if task is not but]:
            await asyncio.wait(others, timeout=seconds)

    async def leave(self) -> None:
        """Leave the group, after `quit`. Results delivered to this client and not handled go to others.

        A membership that is in use leaves when its run ends.
        """
        self._has_left = True
        while self._idle:
            await self._let_go(self._idle.pop())

    def _started(self, run: Coroutine[Any, Any, bool], member: MemberTask) -> asyncio.Task[bool]:
        task = self._home.start(run)
        self._running[task] = member
        task.add_done_callback(self._running.pop)
        return task

    async def _run(
        self,
        member: MemberTask,
        handle: Handle,
        is_told: Callable[[], bool],
        until: float,
        *,
        leaves: bool = False,
    ) -> bool:
        try:
            return await member.run(
                handle, lambda: self._has_quit or is_told(), self._drain_if_stopped, until
            )
        finally:
            if leaves or self._has_left:
                await self._let_go(member)
            else:
                self._idle.append(member)
            if self._has_left:
                await self._broker.server.close()  # what the member has opened since

    async def _let_go(self, member: MemberTask) -> None:
        """Have a member leave the group. If the server can't be told, its name leaves the group later."""
        try:
            await member.leave()
        except ServerError as error:
            log.debug("%s: its name leaves the group later: %s", self._name, error)

    def _drain_if_stopped(self) -> Drain[AsyncServer] | None:
        return self._drain if self._is_stopped else None

    def _member(self) -> MemberTask:
        return MemberTask(self._broker, Handlers(self._broker))


class _Turn:
    """One wait for results: whether it was told to end, and what it is doing."""

    def __init__(self) -> None:
        self.is_told = False
        self.is_calling_async = False

    async def call(self, call: Call) -> None:
        """Call a handler."""
        self.is_calling_async = call.handler.is_async
        try:
            await call.handler.on_loop(call.value, call.batch)
        finally:
            self.is_calling_async = False
