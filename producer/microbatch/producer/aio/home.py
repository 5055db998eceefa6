"""The home of an asyncio client: its event loop, its process, and its own tasks there.

Only tasks of the client use a connection. A user's task waits for them. So it can be cancelled at any moment,
and no reply is left behind for somebody else to read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from microbatch.broker.errors import WrongLoop

T = TypeVar("T")


class Home:
    """Where a client was opened. For the event loop that `open` is called in."""

    def __init__(self, batcher: str) -> None:
        self._batcher = batcher
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Belong to the running event loop. Raises WrongLoop if there is none, or if this is open already."""
        if self._loop is not None:
            raise self._error("was opened before; call connect() for each `async with`")
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise self._error("needs asyncio: no asyncio event loop is running here") from None
        self._pid = os.getpid()

    def check(self) -> None:
        """Raises WrongLoop unless this is called in the client's event loop and process."""
        self.check_process()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._loop:
            raise self._error("was opened in another event loop; connect() in this one")

    def check_process(self) -> None:
        """Raises WrongLoop unless this is called in the client's process."""
        if self._loop is None:
            raise self._error("is not open; write `async with connect(config) as mb:`")
        if self._pid != os.getpid():
            raise self._error("was opened before a fork; connect() in this process")

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` in the event loop, from any thread or signal handler."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed, and everything that ran in it is over
                self._loop.call_soon_threadsafe(callback)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task of the client. Its error is raised where the result of the task is asked for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in a task of the client. If the caller is cancelled, the work goes on without it."""
        task = self.start(work)
        await asyncio.wait((task,))
        return task.result()

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """The same, but a caller that is cancelled waits for the end of the work, and is then cancelled."""
        task = self.start(work)
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:  # anyio cancels again and again
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # otherwise asyncio logs it, when a caller was cancelled and asks for nothing

    def _error(self, what: str) -> WrongLoop:
        return WrongLoop(f"{self._batcher}: this client {what}")
