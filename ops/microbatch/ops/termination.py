"""Turns SIGTERM and SIGHUP into an exception, so that `finally` blocks run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """This process was asked to end. Like KeyboardInterrupt, this is not an Exception."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def terminable() -> Iterator[None]:
    """For the main thread: within the block, SIGTERM and SIGHUP raise Terminated."""
    before = {number: signal.signal(number, _raise) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        _asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_terminated() -> None:
    """Raise Terminated if a signal came and its exception was lost: Python drops it in a finalizer."""
    if _asked:
        raise Terminated(_asked[-1])


_asked: list[int] = []


def _raise(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    raise Terminated(number)
