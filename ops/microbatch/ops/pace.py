"""The pace: limits a stream of events to a rate."""

from __future__ import annotations

import time

from microbatch.producer.recorder import CHUNK_EVENTS


class Pace:
    """Limits events to a rate, counted from the first one; without a rate it never waits."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._start: float | None = None
        self._passed = 0

    @property
    def at_once(self) -> int:
        """How many events may go together: those of a tenth of a second, and at least one."""
        if self._per_second is None:
            return CHUNK_EVENTS
        return max(1, min(CHUNK_EVENTS, int(self._per_second / 10)))

    def wait(self, count: int) -> None:
        """Wait until the next ``count`` events are due."""
        now = time.monotonic()
        if self._start is None:
            self._start = now
        if self._per_second is not None:
            time.sleep(max(0.0, self._start + self._passed / self._per_second - now))
        self._passed += count
