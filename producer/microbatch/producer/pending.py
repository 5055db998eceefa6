"""The futures of submitted events whose replies have not come yet."""

from __future__ import annotations

import heapq
import itertools
import threading
from asyncio import InvalidStateError as SettledTask
from collections.abc import Callable
from concurrent.futures import InvalidStateError as SettledThread
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol

from pydantic_core import from_json

from microbatch.broker.errors import DecodeError, EventExpired, EventFailed, ReplyLost
from microbatch.broker.state.reply_stream import Found
from microbatch.broker.wire.reply import Reply

_SPARE_DEADLINES = 1_000
_LOST = "the reply can't come any more: the server has lost it, or this process did not read for a minute"


class AnyFuture(Protocol):
    """A future of `concurrent.futures` or of asyncio."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, error: BaseException, /) -> None: ...


@dataclass(slots=True)
class _Entry:
    future: AnyFuture
    client: str = ""
    """The id of the reply stream that its event names; empty until the event is sent."""


class Pending:
    """The pending futures of one process, by the numbers of their events. Safe to use from threads."""

    def __init__(self) -> None:
        self.unlock()
        self._entries: dict[int, _Entry] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._numbers = itertools.count(1)

    def unlock(self) -> None:
        """Make a new lock, as in a process that was forked now: another thread may have held the old one."""
        self._lock = threading.RLock()  # a signal handler may cancel a future while another is added

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, future: AnyFuture, deadline: float = inf) -> int:
        """Keep a future, until ``deadline`` (monotonic seconds). Returns the number of its event."""
        with self._lock:
            number = next(self._numbers)
            self._entries[number] = _Entry(future)
            if deadline < inf:
                heapq.heappush(self._deadlines, (deadline, number))
                self._forget_settled()
        return number

    def _forget_settled(self) -> None:
        """Drop the deadlines of settled futures once they are the most. They may be far in the future."""
        if len(self._deadlines) > 2 * len(self._entries) + _SPARE_DEADLINES:
            self._deadlines = [each for each in self._deadlines if each[1] in self._entries]
            heapq.heapify(self._deadlines)

    def sent(self, numbers: list[int], client: str) -> None:
        """These events name this reply stream from now on."""
        for number in numbers:
            if (entry := self._entries.get(number)) is not None:
                entry.client = client

    @property
    def next_deadline(self) -> float:
        """When the next future times out (monotonic seconds)."""
        with self._lock:
            while self._deadlines and self._deadlines[0][1] not in self._entries:
                heapq.heappop(self._deadlines)
            return self._deadlines[0][0] if self._deadlines else inf

    def settle(self, number: int, outcome: object) -> bool:
        """Settle the future of this event, which is then no longer pending. Returns whether it was.

        It is settled first: a child that is forked in between finds it pending, and settles it there.
        """
        if (entry := self._entries.get(number)) is None:
            return False
        settle(entry.future, outcome)
        self.forget(number)
        return True

    def forget(self, number: int) -> None:
        """The future of this event is no longer pending: its caller has cancelled it, or has its outcome."""
        with self._lock:
            self._entries.pop(number, None)

    def give_up_late(self, now: float) -> bool:
        """Fail the futures whose deadline is over. Returns whether there were any."""
        found = False
        while self.next_deadline <= now:
            with self._lock:
                _, number = heapq.heappop(self._deadlines)
            found |= self.settle(number, TimeoutError("no reply came within the timeout"))
        return found

    def settle_by(self, found: Found) -> None:
        """Settle the futures that these replies are for."""
        for number, raw in found:
            self.settle(number, outcome_of(raw))

    def lose(self, client: str) -> None:
        """Fail the futures whose events name this reply stream, which is gone."""
        self.fail_all(lambda: ReplyLost(_LOST), client)

    def fail_all(self, error: Callable[[], BaseException], client: str | None = None) -> int:
        """Fail all futures, or only those whose events name this reply stream, each with an error of its own.

        Returns how many there were.
        """
        with self._lock:
            numbers = [n for n, entry in self._entries.items() if client is None or entry.client == client]
        return sum(self.settle(number, error()) for number in numbers)

    def futures(self) -> list[AnyFuture]:
        """All futures."""
        with self._lock:
            return [entry.future for entry in self._entries.values()]


def settle(future: AnyFuture, outcome: object) -> None:
    """Give a future its result, or its error. Nothing happens to one that was cancelled meanwhile."""
    if future.done():
        return
    with suppress(SettledThread, SettledTask):
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def own_copy(error: BaseException) -> BaseException:
    """A copy of an error for one of several callers that raise it: each adds to its own traceback."""
    own = copy(error)
    own.__cause__ = error.__cause__
    return own


def outcome_of(raw: bytes) -> object:
    """What a reply says: the event's result, as a plain JSON value, or the error that its future gets."""
    try:
        reply = Reply.decode(raw)
        if reply.result is not None:
            return from_json(reply.result)
    except ValueError as error:  # DecodeError is one too
        return error if isinstance(error, DecodeError) else DecodeError(f"the reply is not JSON: {error}")
    if reply.failure is None:
        return EventExpired("the event expired before it was processed")
    failure = reply.failure
    return EventFailed(failure.error, failure.traceback, failure.attempts)
