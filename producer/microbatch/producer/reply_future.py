"""The future of a submitted event, and the threads that its callbacks run on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from microbatch.broker.process.loggable import locate

log = logging.getLogger(__name__)

_MOST_THREADS = 8
Callback = Callable[[Future[Any]], object]


class Callbacks:
    """Calls the callbacks of one batcher's futures, on threads of their own.

    A callback on the thread that settles the futures would hold up all of them if it is slow.
    """

    def __init__(self, batcher: str) -> None:
        self._batcher = batcher
        self.renew()

    def renew(self) -> None:
        """Begin without threads, as in a process that was forked now."""
        self.lock = threading.RLock()
        self._threads: ThreadPoolExecutor | None = None

    def call(self, callback: Callback, future: Future[Any]) -> None:
        """Call it on another thread soon; at once if this process is about to end."""
        try:
            with self.lock:
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(_MOST_THREADS, f"{self._batcher} callbacks")
                self._threads.submit(self._call, callback, future)
        except RuntimeError:  # no thread starts at the end of a process
            self._call(callback, future)

    def close(self) -> None:
        """End the threads when all callbacks have returned. Does not wait for that."""
        with self.lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    def _call(self, callback: Callback, future: Future[Any]) -> None:
        try:
            callback(future)
        except Exception as error:  # noqa: BLE001 - the user's code
            log.error("%s: a callback of a future raised %s", self._batcher, locate(error))  # noqa: TRY400


class ReplyFuture(Future[Any]):
    """The future of one event's reply.

    Args:
        callbacks: calls its callbacks.
        on_cancel: called with the event's number when the future is cancelled.
    """

    number = 0

    def __init__(self, callbacks: Callbacks, on_cancel: Callable[[int], object]) -> None:
        super().__init__()
        self._callbacks_run_by = callbacks
        self._on_cancel = on_cancel

    def add_done_callback(self, fn: Callback) -> None:
        super().add_done_callback(partial(self._callbacks_run_by.call, fn))

    def cancel(self) -> bool:
        with self._callbacks_run_by.lock:
            is_first = not self.done()
            if not super().cancel():
                return False
            if is_first:
                # Without it, `concurrent.futures.wait` would wait for this future for ever.
                self.set_running_or_notify_cancel()
        if is_first:
            self._on_cancel(self.number)
        return True

    def renew(self) -> None:
        """Make a new lock, as in a process that was forked now: another thread may have held the old one."""
        self._condition = threading.Condition()
