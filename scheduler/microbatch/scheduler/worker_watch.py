"""Logs that jobs wait and that there is no worker."""

from __future__ import annotations

import logging

from microbatch.broker.process.failure_log import FailureLog
from microbatch.scheduler.queue import JobQueue

log = logging.getLogger(__name__)


class WorkerWatch:
    """Logs at most once a minute that batches wait without a worker, if two looks in a row found that."""

    def __init__(self, name: str, queue: JobQueue) -> None:
        self._name = name
        self._queue = queue
        self._log = FailureLog(log)
        self._waited = False

    def look(self) -> None:
        """Look whether jobs wait and there is no worker. Raises ServerError."""
        jobs = 0 if self._queue.workers() else self._queue.length()
        if jobs and self._waited:
            what = "1 batch is" if jobs == 1 else f"{jobs:,} batches are"
            line = f"{self._name}: {what} to be run, and there is no worker: start `microbatch worker`"
            self._log.note(logging.WARNING, "no worker", line)
        self._waited = bool(jobs)
