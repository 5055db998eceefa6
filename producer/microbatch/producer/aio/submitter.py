"""The submitter of the asyncio client: sends events that want a reply, and awaits the replies.

The events go out with all others of the client. One task reads the replies of all callers. A caller only
waits for a future, so it can be cancelled at any moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from math import inf
from typing import Any, TypeVar

from microbatch.broker.broker import AsyncBroker
from microbatch.broker.errors import (
    AlreadyRecorded,
    Closed,
    InDoubt,
    ServerError,
)
from microbatch.broker.state.reply_stream import ReplyStream
from microbatch.broker.transport.async_listener import AsyncListener
from microbatch.broker.transport.async_server import AsyncServer
from microbatch.broker.transport.backoff import Backoff
from microbatch.broker.transport.clock import host_ms
from microbatch.producer.aio.home import Home
from microbatch.producer.aio.outbox import Outgoing
from microbatch.producer.aio.recorder import AsyncRecorder
from microbatch.producer.pending import Pending, settle
from microbatch.producer.submission import Submission, too_many

log = logging.getLogger(__name__)

T = TypeVar("T")


class AsyncSubmitter:
    """Submits the events of one client."""

    def __init__(self, broker: AsyncBroker, home: Home, recorder: AsyncRecorder) -> None:
        self._broker = broker
        self._home = home
        self._recorder = recorder
        self._name = broker.config.name
        self._most_pending = broker.config.max_pending
        self._ttl_ms = broker.timing.reply_ttl_ms
        self._block_seconds = broker.config.block_when_full
        self._pending = Pending()
        self._settled = asyncio.Event()
        self._listener = AsyncListener(broker.server)
        self._backoff = Backoff(self._name)
        self._stream: ReplyStream[AsyncServer] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[int] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._is_closed = False

    async def submit(
        self, body: bytes, event_id: str = "", *, within: float | None, expires: float | None
    ) -> Any:
        """Send an event, and return its result. Times are in seconds. Raises what became of it otherwise."""
        await self._wait_for_room()
        recorded_at_ms = host_ms()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        deadline = inf if within is None else time.monotonic() + within
        number = self._pending.add(future, deadline)
        self._watch(deadline)
        outgoing: Outgoing | None = None
        try:
            ahead_ms = 0 if expires is None else await self._ahead_ms(future)
            stream = self._stream or await self._opened(future)
            self._pending.sent([number], stream.client)
            raw = Submission(number, body, recorded_at_ms, event_id, expires).encode(stream.client, ahead_ms)
            outgoing = self._recorder.post([raw], partial(_settle_as_sent, future), event_id)
            return await future
        finally:
            self._pending.forget(number)
            self._settled.set()
            if outgoing is not None:
                outgoing.cancel()

    async def close(self, seconds: float) -> None:
        """End the reading within ``seconds``, and fail what is pending. Does not raise."""
        self._is_closed = True
        self._listener.wake()
        if self._timer is not None:
            self._timer.cancel()
        if self._reading is not None:
            await asyncio.wait((self._reading,), timeout=seconds)
        self._pending.fail_all(lambda: Closed("the client was closed before the reply came"))
        if self._stream is not None:
            try:
                await self._stream.close()
            except ServerError as error:
                log.debug("%s: the reply stream expires on its own: %s", self._name, error)

    def _watch(self, deadline: float) -> None:
        """Have the futures given up on time. One timer serves all; `asyncio.timeout` would set many."""
        if deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, deadline - time.monotonic()), self._give_up_late)

    def _give_up_late(self) -> None:
        self._timer, self._timer_at = None, inf
        self._pending.give_up_late(time.monotonic())
        self._watch(self._pending.next_deadline)

    async def _ahead_ms(self, future: asyncio.Future[Any]) -> int:
        """How far the server's clock is ahead of this host's."""
        if (now_ms := self._broker.time_source.known_ms()) is None:
            if self._asking is None or self._asking.done():  # one task asks for all callers
                reading = self._broker.time_source.reading()
                self._asking = self._home.start(self._broker.server.perform(reading))
            now_ms = await _before(future, self._asking)
        return now_ms - host_ms()

    async def _wait_for_room(self) -> None:
        until = time.monotonic() + self._block_seconds
        while len(self._pending) >= self._most_pending and not self._is_closed:
            if (left := until - time.monotonic()) <= 0:
                raise too_many(self._most_pending)
            self._settled.clear()
            try:
                async with asyncio.timeout(left):
                    await self._settled.wait()
            except TimeoutError:
                continue
        if self._is_closed:
            raise Closed(f"the client of {self._name!r} was closed; the event was not recorded")

    async def _opened(self, future: asyncio.Future[Any]) -> ReplyStream[AsyncServer]:
        """The stream, once it is made. One task makes it for all callers.

        Raises as `ReplyStream.open`, or the error of the caller's future if that fails first.
        """
        while self._stream is None:  # again if it was lost before this task went on
            if self._opening is None or self._opening.done():
                self._opening = self._home.start(self._open())
            await _before(future, self._opening)
        return self._stream

    async def _open(self) -> None:
        stream = ReplyStream(self._broker.server, self._broker.keys, self._ttl_ms)
        await stream.open()
        self._stream = stream
        if self._reading is None or self._reading.done():
            self._reading = self._home.start(self._read())

    async def _read(self) -> None:
        """Read replies until the stream is gone or the client closes."""
        try:
            while (stream := self._stream) is not None and not self._is_closed:
                self._listener.clear()
                try:
                    found = await self._listener.perform(stream.read.asked())
                except ServerError as error:
                    await self._listener.pause(self._backoff.failed(error))
                    continue
                self._backoff.succeeded()
                if found is None:
                    self._stream = None
                    self._pending.lose(stream.client)
                else:
                    self._pending.settle_by(found)
        finally:
            await self._listener.close()


async def _before(future: asyncio.Future[Any], task: asyncio.Task[T]) -> T:
    """What the task returns. Raises the error of the caller's future if that has one by then."""
    await asyncio.wait((task, future), return_when=asyncio.FIRST_COMPLETED)
    if future.done():
        future.result()  # nothing was sent, so there is only an error
    return task.result()


def _settle_as_sent(future: asyncio.Future[Any], outgoing: Outgoing, error: BaseException | None) -> None:
    """Fail the future of an event that was not recorded. If that is in doubt, the reply settles it."""
    if error is None:
        if outgoing.is_seen:
            settle(future, AlreadyRecorded("an event with this id was recorded before"))
    elif not isinstance(error, InDoubt):
        settle(future, error)
