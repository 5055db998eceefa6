"""Recording events whose JSON is at hand, so that each is kept as it stands."""

from __future__ import annotations

import time
from collections.abc import Sequence

from microbatch.broker import wire
from microbatch.broker.broker import Broker
from microbatch.broker.events import Wake

CHUNK_EVENTS = 1_000


class Recorder:
    """Records chunks of JSON texts, each in one round trip.

    Args:
        broker: the batcher's.
        max_size: the size of a full batch, for which the scheduler is woken.
    """

    def __init__(self, broker: Broker, max_size: int) -> None:
        self._events = broker.events
        self._max_size = max_size
        self.recorded = 0
        """How many events the server holds, or has held, through this recorder."""

    def record(self, bodies: Sequence[bytes]) -> None:
        """Record these events, all or none. Raises ServerError as `Events.record_many` does."""
        if not bodies:
            return
        now_ms = time.time_ns() // 1_000_000
        waiting = self._events.record_many([wire.encode_event(body, now_ms) for body in bodies])
        self.recorded += len(bodies)
        if waiting // self._max_size > (waiting - len(bodies)) // self._max_size:
            self._events.wake(Wake.SIZE)


class Pace:
    """Holds events to a rate, counted from the first one; without a rate it holds nothing."""

    def __init__(self, per_second: float | None) -> None:
        self._per_second = per_second
        self._start: float | None = None
        self._passed = 0

    @property
    def at_once(self) -> int:
        """How many events may go together: a tenth of a second's, and one at least."""
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
