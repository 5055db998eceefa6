"""The timeouts of submitted events: futures are given up on time, whatever the server does meanwhile."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from math import inf

from microbatch.broker.policy.timing import Timing
from microbatch.producer.pending import Pending


class Timeouts:
    """Gives up the futures whose deadline is over, on a thread that starts with the first deadline.

    The thread that reads the replies can't do it: it waits for the server, which may be away.

    Args:
        batcher: the batcher's name.
        pending: the futures.
        on_late: called on the thread after some futures were given up.
        stumble_seconds: how long to wait after an unexpected error.
    """

    def __init__(
        self,
        batcher: str,
        pending: Pending,
        on_late: Callable[[], None],
        *,
        stumble_seconds: float = Timing.stumble_seconds,
    ) -> None:
        self._batcher = batcher
        self._pending = pending
        self._on_late = on_late
        self._stumble_seconds = stumble_seconds
        self._changed = threading.Condition(threading.RLock())
        self._next = inf
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def watch(self, deadline: float) -> None:
        """Have futures with this deadline (monotonic seconds) given up on time. After they are pending."""
        if deadline == inf:
            return
        with self._changed:
            if self._thread is None and not self._is_closed:
                name = f"{self._batcher} timeouts"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            elif deadline < self._next:
                self._changed.notify_all()

    def close(self) -> None:
        """End the thread. Does not wait for that."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._is_closed:
            try:
                self._step()
            except Exception:  # noqa: BLE001 - a handler of the program's log may raise anything
                traceback.print_exc()
                time.sleep(self._stumble_seconds)

    def _step(self) -> None:
        with self._changed:
            self._next = self._pending.next_deadline
            if not self._is_closed and (left := self._next - time.monotonic()) > 0:
                self._changed.wait(None if left == inf else left)
        if self._pending.give_up_late(time.monotonic()):
            self._on_late()
