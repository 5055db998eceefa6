"""Work: what a client does, written once, and done by a thread or by a task of asyncio.

It is a generator of moves. It knows nothing of threads or event loops: its driver makes each move, and
sends the outcome back or throws the error in. The requests of a verb are moves as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from microbatch.broker.app.functions import UserFunction
from microbatch.broker.transport.request import Request, Steps
from microbatch.broker.wire.batch import BatchInfo

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listen:
    """Perform requests that may block at the server, on a separate connection. A wake ends the wait."""

    asked: Request[Any] | Steps[Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for some seconds, or until a wake."""

    seconds: float


@dataclass(slots=True)  # a frozen one would take twice as long to make, at each result
class Call:
    """Call a handler, and wait until it has returned."""

    handler: UserFunction
    value: Any
    """The result, or a `BatchFailure`."""
    batch: BatchInfo
    tell_handled: Callable[[], None] | None
    """Tells the observer, once the entry is acknowledged. None if it does not see successes."""


Move = Request[Any] | Listen | Pause | Call
Work = Generator[Move, Any, T]


def drive(work: Work[T], make: Callable[[Move], Any]) -> T:
    """Do work on this thread: ``make`` makes each move. An interrupted move is an error of that move."""
    answer: Any = None
    raised: list[BaseException] = []  # one at most; not a variable, which would make a cycle with the error
    while True:
        try:
            move = work.throw(raised.pop()) if raised else work.send(answer)
            answer = make(move)
        except BaseException as error:
            if inspect.getgeneratorstate(work) == inspect.GEN_CLOSED:
                if not isinstance(error, StopIteration):
                    raise
                answer_of_all: T = error.value
                return answer_of_all
            answer = None
            raised.append(error)


async def drive_async(work: Work[T], make: Callable[[Move], Awaitable[Any]]) -> T:
    """The same, in a task of asyncio."""
    answer: Any = None
    raised: list[BaseException] = []  # one at most; not a variable, which would make a cycle with the error
    while True:
        try:
            move = work.throw(raised.pop()) if raised else work.send(answer)
            answer = await make(move)
        except BaseException as error:
            if inspect.getgeneratorstate(work) == inspect.GEN_CLOSED:
                if not isinstance(error, StopIteration):
                    raise
                answer_of_all: T = error.value
                return answer_of_all
            answer = None
            raised.append(error)
