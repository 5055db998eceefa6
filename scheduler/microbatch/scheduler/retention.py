"""Retention: deletes dead batches when they are too old or too many."""

from __future__ import annotations

import heapq
import logging

from microbatch.broker.app.durations import duration_text
from microbatch.broker.broker import Broker
from microbatch.broker.inspect.quarantine import Quarantine, QuarantinedKey
from microbatch.scheduler.queue import JobQueue

log = logging.getLogger(__name__)

_IN_ONE_SCRIPT = 100  # batches
_IN_ONE_RUN = 1_000  # batches; the next run continues with the others


class Retention:
    """Deletes dead batches beyond the age or number that is kept, for the scheduler that holds the lease."""

    def __init__(self, broker: Broker, queue: JobQueue) -> None:
        self._broker = broker
        self._queue = queue
        self._age = broker.config.keep_dead
        self._most = broker.config.keep_dead_max
        self._quarantine = Quarantine(broker.server, broker.keys)
        self._seen: dict[bytes, int] = {}

    def run_once(self) -> int:
        """Delete some of them. Returns how many batches and keys were deleted.

        Nothing is sent if everything is kept for ever. Raises ServerError; a later run does the rest.
        """
        if self._age is None and self._most is None:
            return 0
        return self._retire_batches() + self._retire_keys()

    def _retire_batches(self) -> int:
        before_ms = None if self._age is None else self._broker.clock.now_ms() - int(self._age * 1000)
        batches, events = 0, 0
        while batches < _IN_ONE_RUN:
            some, ids = self._broker.dead.retire(before_ms=before_ms, kept=self._most, limit=_IN_ONE_SCRIPT)
            self._queue.forget_failed(ids)
            batches, events = batches + len(ids), events + some
            if len(ids) < _IN_ONE_SCRIPT:
                break
        if batches:
            self._tell(f"dead batches: {batches}, events: {events}")
        return batches

    def _retire_keys(self) -> int:
        """Delete quarantined keys. The age of a key is the time since it was last read or written."""
        if self._most is not None:
            self._quarantine.trim_results(self._most)
        for found in self._quarantine.look():
            self._seen[found.key] = found.idle_seconds
        if not self._quarantine.at_the_end:
            return 0
        seen, self._seen = self._seen, {}
        removed = self._quarantine.remove(
            self._no_longer_kept([QuarantinedKey(*item) for item in seen.items()])
        )
        if removed:
            self._tell(f"quarantined keys: {removed}")
        return removed

    def _no_longer_kept(self, found: list[QuarantinedKey]) -> list[bytes]:
        over = 0 if self._most is None else max(0, len(found) - self._most)
        oldest = heapq.nlargest(min(over, _IN_ONE_RUN), found, key=lambda one: one.idle_seconds)
        old = [one for one in found if self._age is not None and one.idle_seconds >= self._age]
        return list(dict.fromkeys(one.key for one in (*oldest, *old[:_IN_ONE_RUN])))

    def _tell(self, what: str) -> None:
        kept = [] if self._age is None else [f"keep_dead is {duration_text(self._age)}"]
        kept += [] if self._most is None else [f"keep_dead_max is {self._most:,}"]
        log.info("%s: thrown away: %s (%s)", self._broker.config.name, what, ", ".join(kept))
