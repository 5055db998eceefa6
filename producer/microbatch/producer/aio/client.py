"""The asyncio client: records events of one batcher, and handles or yields its results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from types import TracebackType
from typing import Any, Self

from microbatch.broker.app.config import Config
from microbatch.broker.broker import AsyncBroker
from microbatch.broker.errors import ConfigError, WrongLoop
from microbatch.broker.wire import codec
from microbatch.producer.aio.chunks import chunks_of
from microbatch.producer.aio.session import Session
from microbatch.producer.aio.stream import ResultStream
from microbatch.producer.event_checks import refuse_one_event
from microbatch.producer.submission import NEEDS_PER_EVENT, check_seconds


class AsyncMicroBatcher:
    """Records events for one batcher, and handles its results, on one event loop of asyncio.

    Made by `connect`, and used in ``async with``. At the end of the block it stops, then closes.

    Any number of tasks may use it at the same time. They share few connections, and their events share round
    trips. No task of yours uses a connection itself, so you may cancel any of them at any moment. On another
    event loop, or in a forked child, every call raises WrongLoop.

    Args:
        config: the batcher's settings.
        wait: how long to wait for a server that is away when the block begins, in seconds; None: for as long
            as it takes.
        broker: the batcher's verbs; without it they are made from the settings.

    Raises:
        ConfigError: no server is set, its URL is malformed or one of Sentinels, or a handler can't be used.
    """

    def __init__(
        self, config: Config, *, wait: float | None = None, broker: AsyncBroker | None = None
    ) -> None:
        self.config = config
        self._wait = wait
        self._session = Session(broker if broker is not None else AsyncBroker(config))
        self._home = self._session.home
        self._recorder = self._session.recorder
        self._consumer = self._session.consumer

    async def record_event(self, event: object, id: str | None = None) -> None:  # noqa: A002 - what it is
        """Record one event. When this returns, the server holds it.

        Events that tasks record at the same time share round trips. If one has no JSON or is too large, only
        its own call raises. If a round trip fails, every call that shared it raises. With an ``id``,
        ``max_waiting`` or ``durability="replicated"``, each event has its own round trip.

        If the task is cancelled, the event may or may not have been recorded. Others are not affected.

        Args and errors are those of `MicroBatcher.record_event`, and WrongLoop.
        """
        self._home.check()
        await self._recorder.record([codec.encode(event)], id)

    async def record_events(self, events: Iterable[object] | AsyncIterable[object]) -> int:
        """Record many events, in one round trip per chunk. Returns how many were recorded.

        A chunk (1,000 events or 1 MB of them) is recorded whole or not at all. An event that can't be
        encoded ends the call: the chunks before it were recorded, and its own chunk was not.

        A plain iterable is read on the event loop, so it must not block.

        Raises as `record_event` does, and EncodeError for a text, a mapping or a model.
        """
        self._home.check()
        refuse_one_event(events)
        count = 0
        async for bodies in chunks_of(events, self._recorder.chunk_events):
            await self._recorder.record(bodies)
            count += len(bodies)
        return count

    async def submit(
        self,
        event: object,
        *,
        id: str | None = None,  # noqa: A002 - what it is
        timeout: float | None = None,  # noqa: ASYNC109 - it is part of what is documented
        expires: float | None = None,
    ) -> Any:
        """Record one event, and return its own result. Only with ``Config(per_event=True)``.

        Events that tasks submit at the same time share round trips, and so do their replies. If the task is
        cancelled, or ``timeout`` is over, this client forgets the event; it is processed, unless it was not
        sent yet.

        Args and errors are those of `MicroBatcher.submit` and of its future, and WrongLoop.
        """
        self._home.check()
        if (submitter := self._session.submitter) is None:
            raise ConfigError(NEEDS_PER_EVENT)
        check_seconds("timeout", timeout)
        check_seconds("expires", expires)
        body = codec.encode(event)
        self._recorder.check([body], id)
        return await submitter.submit(body, id or "", within=timeout, expires=expires)

    async def flush(self) -> None:
        """Return when every event that any task of this client recorded before the call is settled.

        The server then holds it, or its own call has raised. It does not cut batches.
        """
        self._home.check()
        await self._home.do(self._recorder.settled())

    async def wait_for_results(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as for threads
        """Pass results and failures to the config's handlers, until stopped and all is handled.

        An ``async def`` handler is awaited on this event loop. A plain one runs on another thread, one at a
        time for each call, so that it may block. Otherwise this is `MicroBatcher.wait_for_results`.

        If the task is cancelled, an async handler is cancelled, and a plain one is waited for. What was not
        handled is delivered again: to the next call, or to another consumer.

        Raises:
            Refused: the server answers, but refuses a command. Nothing is lost; call this again.
        """
        self._home.check()
        return await self._consumer.wait(timeout)

    def results(self, result_type: Any = Any) -> ResultStream:
        """Yield results and failures as `Received`, until stopped and all is handled.

            async for received in mb.results():
                ...

        Each is acknowledged when the next is asked for. If the loop is left, or the iterator is closed, the
        last one goes back, and is delivered again. While the server is away, this waits.

        The config's handlers are not called. Each result goes to one consumer: one of these iterators, or of
        `wait_for_results`, here or in another process.

        Args:
            result_type: what results are rebuilt as; plain JSON values by default. One that does not fit is
                yielded as a failure.

        Raises:
            TypeError: pydantic cannot handle the type.
            Refused: from the loop. The server answers, but refuses a command. Nothing is lost.
        """
        self._home.check()
        return ResultStream(self._session, result_type)

    def stop_consuming(self) -> None:
        """Stop handling results in this client, in every task and for good. Returns at once.

        A handler that is running is not interrupted, and its result is acknowledged. Iterators end when they
        are asked for the next result, and the last one that they yielded is acknowledged or given back as
        always. May be called more than once, on any thread, and in a signal handler.
        """
        self._home.check_process()
        self._consumer.quit()

    async def stop(self) -> None:
        """Stop recording here, and have all waiting events cut now. May be called more than once.

        Raises:
            ServerError: the server could not be told. The next tick cuts the waiting events anyway, and
                `wait_for_results` asks the server again.
        """
        self._home.check()
        self._recorder.stop()
        await self._home.do(self._session.stop())

    async def close(self) -> None:
        """Stop consuming, as `stop_consuming` does, and close the connections.

        It waits up to 5 seconds for events that are on their way, and for handlers that are running. It goes
        on to the end even if the task is cancelled meanwhile.
        """
        self._home.check()
        await self._home.finish(self._session.close(asyncio.current_task()))

    async def __aenter__(self) -> Self:
        await self._session.open(self._wait)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._home.check()
        except WrongLoop:
            if error is None:
                raise
            return  # the error of the block goes on
        await self._home.finish(self._session.leave(error, asyncio.current_task()))
