"""Signals that this process was started without, as in the background of a script or under ``nohup``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A shell without job control starts its background with the first ignored, and nohup ignores the second.
_IGNORED_IN_THE_BACKGROUND = (signal.SIGINT, signal.SIGHUP)

_ASKING_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def children_have_default_signals() -> Iterator[None]:
    """Within the block, start children with the default action of SIGINT and SIGHUP, as a terminal does.

    A child inherits that a signal is ignored, and Python then raises no KeyboardInterrupt in it. It does not
    inherit a handler, so this process has one instead that does nothing: for itself the signal stays ignored.
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
    """After the block, the signals that ask a process to end are handled as before it."""
    before = {number: signal.getsignal(number) for number in _ASKING_TO_END}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def on_alarm(act: Callable[[], object]) -> Iterator[None]:
    """Within the block, do this at SIGALRM, at whatever line it comes.

    This thread is not traced meanwhile, where coverage is measured: a signal that comes to the tracer would
    be lost, or find a lock held.
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
