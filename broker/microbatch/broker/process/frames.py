"""The memory that an error holds: the local variables of every frame that it passed through.

An error has a traceback, which has the frames, and each frame has its caller's. So a caller that keeps the
error in a variable, or in what it returns, is in a cycle with it. Everything in those frames, a failed run's
events and data for example, then stays until the garbage collector comes by, which may take many runs.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from microbatch.broker.wire.batch import PartialFailure, Reject


def release_locals(error: BaseException) -> None:
    """Let go of the local variables in the frames that an error, and what led to it, went through.

    Its traceback can be printed as before. Frames that still run keep theirs. Call it once the error is
    caught for good: nothing that it went through can go on after it.
    """
    for each in _related(error):
        traceback.clear_frames(each.__traceback__)


def release(error: BaseException) -> None:
    """Let go of all memory that an error, and what led to it, holds by its traceback, which is gone then."""
    for each in _related(error):
        traceback.clear_frames(each.__traceback__)
        each.__traceback__ = None


def _related(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came from, and what it is made of."""
    found, seen = [error], {id(error)}
    while found:
        each = found.pop()
        yield each
        for other in _next_to(each):
            if isinstance(other, BaseException) and id(other) not in seen:
                seen.add(id(other))
                found.append(other)


def _next_to(error: BaseException) -> Iterator[object]:
    yield error.__cause__
    yield error.__context__
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions
    if isinstance(error, PartialFailure):
        yield from error.errors.values()
    if isinstance(error, Reject):
        yield error.error
