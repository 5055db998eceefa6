"""A loop: a thread that repeats one step until it is stopped."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable


class Loop:
    """Does ``step`` on a daemon thread, with a pause of ``pause`` seconds before each step.

    `start` and `stop` may be called more than once and in any order. A loop that was stopped does not start
    again. It ends with its process, and does not exist in a process that is forked from this one.

    Args:
        step: the function that is called. If it raises, the traceback is printed and the loop continues.
        pause: the wait before each step, in seconds.
        name: the thread's name.
    """

    def __init__(self, step: Callable[[], object], pause: float, name: str) -> None:
        self._step = step
        self._pause = pause
        self._name = name
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it was started or stopped before."""
        if self._thread is None and not self._stopped.is_set():
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self, timeout: float | None = None) -> None:
        """Prevent further steps, and wait for the current one, up to ``timeout`` seconds (None: no limit)."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped.wait(self._pause):
            try:
                self._step()
            except Exception:  # noqa: BLE001 - a log handler of the app may raise anything
                traceback.print_exc()
