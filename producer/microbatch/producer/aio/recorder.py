"""The recorder of the asyncio client: sends the events of many tasks over few connections."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from itertools import chain

from microbatch.broker.broker import AsyncBroker
from microbatch.broker.transport.clock import host_ms
from microbatch.broker.wire.event import encode_event
from microbatch.producer.aio.home import Home
from microbatch.producer.aio.outbox import Outbox, Outgoing
from microbatch.producer.event_checks import EventChecks, stopped
from microbatch.producer.recorder import CHUNK_EVENTS
from microbatch.producer.room import record_when_there_is_room

_GUARDED_AT_ONCE = 8


class AsyncRecorder:
    """Records events of one batcher.

    Plain events go out together, one write at a time. Events with an id, within a bound or for a replica are
    recorded by a script for each caller, over up to eight connections.
    """

    def __init__(self, broker: AsyncBroker, home: Home) -> None:
        config = broker.config
        self._broker = broker
        self._events = broker.events
        self._max_size = config.max_size
        self._block_seconds = config.block_when_full
        self._checks = EventChecks(config)
        self.chunk_events = min(CHUNK_EVENTS, config.max_waiting or CHUNK_EVENTS)
        """The most events that `record` should be given at once."""
        self._is_stopped = False
        self._plain = Outbox(home, self._append, senders=1, most=self.chunk_events)
        self._guarded = Outbox(home, self._record, senders=_GUARDED_AT_ONCE, most=1)

    async def record(self, bodies: Sequence[bytes], event_id: str | None = None) -> None:
        """Record the events with these JSON texts, all or none; the server holds them when this returns.

        Raises Stopped after `stop`, and otherwise as the `Recorder` of threads does. If it is cancelled, the
        events may or may not be recorded.
        """
        self.check(bodies, event_id)
        at_ms = host_ms()
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        raws = [encode_event(body, at_ms) for body in bodies]
        outgoing = self.post(raws, functools.partial(_tell, recorded), event_id or "")
        try:
            await recorded
        finally:
            outgoing.cancel()

    def check(self, bodies: Sequence[bytes], event_id: str | None) -> None:
        """Raises Stopped after `stop`, EncodeError and ConfigError, before anything is sent."""
        if self._is_stopped:
            raise stopped(self._broker.config.name, len(bodies))
        if event_id is not None:
            self._checks.check_id(event_id)
        self._checks.check_sizes(bodies)

    def post(
        self, raws: Sequence[bytes], tell: Callable[[Outgoing, BaseException | None], None], event_id: str
    ) -> Outgoing:
        """Send events that carry the time of their recording. ``tell`` is called when they are recorded."""
        outgoing = Outgoing(raws, tell, event_id)
        if self._events.is_plain and not event_id:
            self._plain.post(outgoing)
        else:
            outgoing.until = time.monotonic() + self._block_seconds
            self._guarded.post(outgoing)
        return outgoing

    def stop(self) -> None:
        """Record nothing more. Events that are on their way still go out."""
        self._is_stopped = True

    async def over(self, seconds: float) -> None:
        """Return when nothing is on its way any more, or after ``seconds``. For after `stop`."""
        await asyncio.gather(self._plain.over(seconds), self._guarded.over(seconds))

    async def settled(self) -> None:
        """Return when every event that is on its way now is recorded, or its caller was told why not."""
        await asyncio.gather(self._plain.empty(), self._guarded.empty())

    async def _append(self, several: Sequence[Outgoing]) -> None:
        raws = list(chain.from_iterable(outgoing.raws for outgoing in several))
        waiting = await self._events.append(raws, b"", full_at=self._max_size)
        for outgoing in several:
            outgoing.settle()  # before the scheduler is told, which takes another round trip
        if self._events.is_full_by(len(raws), waiting, full_at=self._max_size):
            await self._events.tell_full()
        self._note(len(raws), waiting)

    async def _record(self, several: Sequence[Outgoing]) -> None:
        (outgoing,) = several
        record = functools.partial(
            self._events.record.asked, outgoing.raws, b"", outgoing.event_id, full_at=self._max_size
        )
        waiting = await self._broker.server.perform(
            record_when_there_is_room(self._broker, record, outgoing.until)
        )
        outgoing.is_seen = bool(outgoing.event_id) and not waiting
        self._note(len(outgoing.raws), waiting)

    def _note(self, count: int, waiting: int) -> None:
        observer = self._broker.observer
        if waiting and observer.sees_success:  # waiting is 0 if the event's id had been seen
            observer.recorded(batcher=self._broker.config.name, count=count, waiting=waiting)


def _tell(recorded: asyncio.Future[None], _: Outgoing, error: BaseException | None) -> None:
    if recorded.done():  # its caller was cancelled, and has not run since
        return
    if error is None:
        recorded.set_result(None)
    else:
        recorded.set_exception(error)
