"""The handling of signals in the test process, also in the background of a script or under ``nohup``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A shell without job control starts its background jobs with SIGINT ignored. nohup ignores SIGHUP.
_IGNORED_IN_THE_BACKGROUND = (signal.SIGINT, signal.SIGHUP)

_ASKING_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def children_have_default_signals() -> Iterator[None]:
    """Within the block, start children with the default action of SIGINT and SIGHUP, as a terminal does.

    A child inherits that a signal is ignored, and Python then raises no KeyboardInterrupt in it. A child does
    not inherit a handler. So this process installs a handler that does nothing, and still ignores the signal
    itself.
    """
    ignored = [number for number in _IGNORED_IN_THE_BACKGROUND if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, _do_nothing)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def handlers_restored() -> Iterator[None]:
    """After the block, restore the handlers of the signals that ask a process to end."""
    before = {number: signal.getsignal(number) for number in _ASKING_TO_END}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def on_alarm(act: Callable[[], object]) -> Iterator[None]:
    """Within the block, call ``act`` on SIGALRM, at whatever line the signal arrives.

    The thread is not traced during the block, even if coverage is measured: a signal that arrives in the
    tracer would be lost, or would find a lock held.
    """
    tracer, before = sys.gettrace(), signal.signal(signal.SIGALRM, lambda *_: act())
    sys.settrace(None)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.settrace(tracer)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass
