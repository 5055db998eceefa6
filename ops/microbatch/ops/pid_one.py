"""Handles signals from the start in the first process of a container.

The kernel does not let a signal end the process with pid 1 unless the process handles the signal. So without
this module SIGTERM and SIGHUP would be lost until a command has handlers of its own, and in commands that
have none. The module imports almost nothing, so that it can run first.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_FIRST = 1


def end_by_signals() -> None:
    """Let SIGTERM and SIGHUP end this process if it is the first one, as they end any other."""
    if os.getpid() != _FIRST:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    if os.getpid() == _FIRST:
        os._exit(128 + number)
    signal.signal(number, signal.SIG_DFL)  # this is a fork, which the kernel lets any signal end
    os.kill(os.getpid(), number)
