"""The signals that ask a process to stop.

A signal's handler runs in the main thread between any two of its steps, even while that thread holds a lock.
So a handler that acquires a lock, as ``threading.Event.set()`` does, can deadlock. The handler here acquires
none. It counts, and writes a byte into a pipe on which the main thread may wait.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from types import FrameType, TracebackType
from typing import Any, Self

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ECHO_SECONDS = 1.0


class StopSignals:
    """Counts SIGTERM, SIGINT and SIGHUP during the block of a ``with`` in the main thread.

    Two within a second count as one: process managers and terminals send a signal to a process and to its
    group. SIGHUP stays ignored if it was ignored before, as with ``nohup``.

    Args:
        on_first: called in the signal handler at the first signal. It must only set an attribute.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        self.count = 0
        """How often the process was asked to stop."""
        self.last = 0
        """The number of the last signal; 0 if there was none."""
        self._on_first = on_first
        self._counted_at = -inf
        self._before: dict[signal.Signals, Any] = {}
        self._reader = self._writer = -1

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        for end in (self._reader, self._writer):
            os.set_blocking(end, False)
        for number in NUMBERS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)
        self._reader = self._writer = -1

    def wait(self, seconds: float) -> bool:
        """Wait for a signal or a `notify`, for ``seconds`` at most. Returns whether there was one.

        One that came before the call ends the wait at once. Each ends only one wait. A signal that the system
        delivers to another thread is noticed after ``seconds``.
        """
        if not select.select([self._reader], [], [], seconds)[0]:
            return False
        with suppress(BlockingIOError):
            os.read(self._reader, 1_000)
        return True

    def notify(self) -> None:
        """End a wait. May be called on any thread and in a signal handler."""
        with suppress(BlockingIOError):  # the pipe is full, which ends the wait as well
            os.write(self._writer, b"\0")

    def end_in_forks(self) -> None:
        """Give these signals their default effect in forks of this process.

        Otherwise a fork would inherit the handler, which delays the end of this process, and would not end.
        """
        os.register_at_fork(after_in_child=self._restore_defaults)

    def _restore_defaults(self) -> None:
        for number in NUMBERS:
            if getattr(signal.getsignal(number), "__self__", None) is self:
                is_interrupt = number == signal.SIGINT
                signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._counted_at >= _ECHO_SECONDS:
            self._counted_at = now
            self.last = number
            self.count += 1
            if self.count == 1 and self._on_first is not None:
                self._on_first()
        self.notify()
