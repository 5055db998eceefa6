"""A worker's counters in ``rq info`` and rq-dashboard, written once a second.

They rely on two names of RQ 3.0: the fields ``successful_job_count`` and ``total_working_time`` of a worker's
hash.
"""

from __future__ import annotations

from microbatch.broker.transport.request import commands
from microbatch.broker.transport.server import Server


class Counters:
    """Counts a worker's successful runs until they are written."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._runs, self._seconds = 0, 0.0

    def add(self, seconds: float) -> None:
        """Count a successful run that took ``seconds``."""
        self._runs += 1
        self._seconds += seconds

    def note(self, worker_key: str) -> bool:
        """Add the runs to the worker's counters in RQ. Returns whether there were any. Raises ServerError."""
        if not self._runs:
            return False
        runs, seconds, self._runs, self._seconds = self._runs, self._seconds, 0, 0.0
        counts = commands(
            ("HINCRBY", worker_key, "successful_job_count", runs),
            ("HINCRBYFLOAT", worker_key, "total_working_time", seconds),
        )
        self._server.perform(counts)
        return True
