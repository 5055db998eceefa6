"""Releases the memory that an error holds: the local variables of every frame that it passed through.

An error refers to its traceback, the traceback to its frames, and each frame to its caller's frame. So a
caller that keeps the error in a variable, or in what it returns, forms a reference cycle with it. Everything
in those frames, such as the events and data of a failed run, then stays until the garbage collector runs.
That may take many runs of batches.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from microbatch.broker.wire.batch import PartialFailure, Reject


def release_locals(error: BaseException) -> None:
    """Clear the local variables of the frames that an error, and the errors behind it, passed through.

    The traceback can still be printed. Frames that still run keep their variables. Call this only when the
    error is caught for good: a generator or coroutine that it passed through can't go on afterwards.
    """
    for each in _related(error):
        traceback.clear_frames(each.__traceback__)


def release(error: BaseException) -> None:
    """Release all memory that an error, and the errors behind it, hold by their tracebacks; remove these."""
    for each in _related(error):
        traceback.clear_frames(each.__traceback__)
        each.__traceback__ = None


def _related(error: BaseException) -> Iterator[BaseException]:
    """The error, the errors that it came from, and those that it contains."""
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
