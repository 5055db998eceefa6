"""Maintenance: the chores that the active scheduler does every five seconds."""

from __future__ import annotations

import logging
import time

from microbatch.broker.broker import Broker
from microbatch.broker.errors import MicrobatchError, ServerError
from microbatch.broker.inspect.quarantine import quarantine_keys
from microbatch.broker.transport.backoff import PASSING
from microbatch.scheduler.neglect import NeglectWatch
from microbatch.scheduler.queue import JobQueue
from microbatch.scheduler.retention import Retention
from microbatch.scheduler.worker_watch import WorkerWatch

log = logging.getLogger(__name__)

_WORKERS_SECONDS = 30.0


class Maintenance:
    """Does one batcher's maintenance. Raises ServerError; the next run does what was not done."""

    def __init__(self, broker: Broker, queue: JobQueue) -> None:
        self._broker = broker
        self._name = broker.config.name
        self._queue = queue
        self._retention = Retention(broker, queue)
        self._neglect = NeglectWatch(broker)
        self._worker_watch = WorkerWatch(self._name, queue)
        self._workers_at = 0.0

    def run_once(self, now_ms: int) -> None:
        """Quarantine foreign values, note the counters for the rates, and delete what is too old."""
        self._set_quarantine()
        if words := self._broker.wake.thin_out():
            log.error("%s: %d words to the scheduler were not ours, and are thrown away", self._name, words)
        self._broker.stats.mark(now_ms)
        self._queue.tidy()
        if time.monotonic() >= self._workers_at:  # monotonic, because the server's clock may be set back
            self._workers_at = time.monotonic() + _WORKERS_SECONDS
            self._queue.tidy_workers()
        self._worker_watch.look()
        self._retention.run_once()
        self._neglect.look()

    def after(self, error: MicrobatchError) -> bool:
        """Whether the server refused something because of a foreign value, which is now quarantined."""
        if isinstance(error, PASSING):
            return False
        try:
            return self._set_quarantine()
        except ServerError as refused:
            log.debug("%s: %s", self._name, refused)
            return False

    def _set_quarantine(self) -> bool:
        moved = quarantine_keys(self._broker.server, self._broker.keys)
        for line in moved:
            log.error("%s: %s", self._name, line)
        return bool(moved)
