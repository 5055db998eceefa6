"""The results of a batcher as an async iterator."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from microbatch.broker.wire.batch import BatchFailure, BatchInfo
from microbatch.broker.wire.codec import Decoder
from microbatch.producer.aio.consumer import AsyncConsumer
from microbatch.producer.aio.member_task import MemberTask
from microbatch.producer.aio.session import Session
from microbatch.producer.handlers import Handlers
from microbatch.producer.work import Call


@dataclass(frozen=True, slots=True)
class Received:
    """One result, or one failure, as `AsyncMicroBatcher.results` yields it."""

    batch: BatchInfo
    """The batch that it is of."""
    result: Any
    """What the processor returned; None if the batch is dead."""
    failure: BatchFailure | None
    """Why the batch is dead, or why its result does not fit the wanted type; None if there is a result."""


class ResultStream:
    """An async iterator over results and failures, with a membership of its own.

    What it has yielded is acknowledged when the next is asked for. If it is closed, or nobody refers to it
    any more, what it yielded last goes back, and is delivered again. A cancelled `__anext__` loses nothing:
    the next one gets what the cancelled one waited for.
    """

    def __init__(self, session: Session, result_type: Any) -> None:
        self._home = session.home
        self._hand = _Hand()
        self._consumer = session.consumer
        handlers = Handlers(session.broker, Decoder(result_type))
        self._member = MemberTask(session.broker, handlers, acknowledge_seconds=0.0)
        self._close = _Closing(self._hand, self._member)
        self._task: asyncio.Task[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        self._home.check()
        if self._task is None and not self._hand.is_closed:
            receive = _receive(self._consumer, self._member, self._hand, self._close)
            self._task = self._home.start(receive)
        return await self._hand.next()

    async def aclose(self) -> None:
        """Give back what was not acknowledged, and leave the group. May be called more than once."""
        self._home.check()
        self._close()
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_task", None) is not None:
            self._home.call_soon(self._close)


class _GivenBack(Exception):
    """The iterator was closed while it had a result in hand."""


class _Closing:
    """Closes an iterator. It does not refer to the iterator itself."""

    def __init__(self, hand: _Hand, member: MemberTask) -> None:
        self._hand = hand
        self._member = member

    def __call__(self) -> None:
        self._hand.close()
        self._member.wake()


class _Hand:
    """Hands one result after another from the client's task to the user's, and back whether it is done."""

    def __init__(self) -> None:
        self.is_closed = False
        self._offered: Received | None = None
        self._is_taken = False
        self._is_over = False
        self._error: Exception | None = None
        self._for_user = asyncio.Event()
        self._for_client = asyncio.Event()

    async def offer(self, call: Call) -> None:
        """Offer a result, and return when it is done. Raises _GivenBack if the iterator was closed before."""
        is_failure = isinstance(call.value, BatchFailure)
        result, failure = (None, call.value) if is_failure else (call.value, None)
        self._offered = offered = Received(call.batch, result, failure)
        self._for_user.set()
        while self._offered is offered:
            if self.is_closed:
                raise _GivenBack
            self._for_client.clear()
            await self._for_client.wait()

    async def next(self) -> Received:
        """What was taken before is done; take the next. Raises StopAsyncIteration at the end."""
        if self._is_taken:
            self._is_taken = False
            self._offered = None
            self._for_client.set()
        while self._offered is None or self._is_taken or self.is_closed:
            if self._is_over or self.is_closed:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            self._for_user.clear()
            await self._for_user.wait()
        self._is_taken = True
        return self._offered

    def close(self) -> None:
        """Give back what is in hand. No more is taken."""
        self.is_closed = True
        self._for_client.set()
        self._for_user.set()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more is offered. The error, if there is one, is raised where the next is asked for."""
        self._is_over = True
        self._error = self._error or error
        self._for_user.set()


async def _receive(consumer: AsyncConsumer, member: MemberTask, hand: _Hand, close: _Closing) -> None:
    """Offer results until the end. The member then leaves the group."""
    consumer.streams.add(close)
    try:
        await consumer.run_once(member, hand.offer, lambda: hand.is_closed)
    except _GivenBack:
        pass
    except Exception as error:  # noqa: BLE001 - it is raised where the next result is asked for
        hand.end(error)
    finally:
        consumer.streams.discard(close)
        hand.end()
