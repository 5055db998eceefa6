"""The observer that logs what is cut, what fails and what is dead."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from microbatch.broker.observe.observer import BatchRun, Observer, PublicError, Role
from microbatch.broker.observe.outlook import Outlook
from microbatch.broker.process.failure_log import FailureLog
from microbatch.broker.wire.in_flight import NewBatch

# An application sets the levels of these loggers by their names.
_CUTS = logging.getLogger("microbatch.scheduler.scheduler")
_OF_ROLES = {
    Role.WORKER: logging.getLogger("microbatch.worker.failure_recorder"),
    Role.SCHEDULER: logging.getLogger("microbatch.scheduler.burial"),
}


class LogObserver(Observer):
    """Logs each cut, and failures at most once a minute for each kind. Successes are not logged."""

    sees_success = False

    def __init__(self) -> None:
        self._failures = {role: FailureLog(log) for role, log in _OF_ROLES.items()}

    def recorded(self, *, batcher: str, count: int, waiting: int) -> None:
        """Nothing is logged."""

    def cut(self, *, batcher: str, batches: Sequence[NewBatch]) -> None:
        triggers = "/".join(dict.fromkeys(batch.header.trigger for batch in batches))
        events = sum(batch.header.size for batch in batches)
        _CUTS.info("%s: cut %d events (batches: %d, trigger: %s)", batcher, events, len(batches), triggers)

    def claimed(self, *, run: BatchRun, at_ms: int, recorded_at_ms: int) -> None:
        """Nothing is logged."""

    def committed(self, *, run: BatchRun, events: int, recorded_at_ms: int) -> None:
        """Nothing is logged."""

    def failed(
        self,
        *,
        run: BatchRun,
        error: PublicError,
        outlook: Outlook,
        by: Role,
        at_ms: int,  # noqa: ARG002 - a line has its own time
    ) -> None:
        if by is Role.SCHEDULER or outlook.dead_events:
            return  # another line reports the silent worker, or the events that are dead
        what = f"attempt {run.attempt} failed, {outlook.describe(run.header.size)}: {error.summary}"
        self._failures[by].note(logging.WARNING, error.kind, f"{run.batcher}: batch {run.id}: {what}")

    def dead(self, *, run: BatchRun, error: PublicError, by: Role, at_ms: int) -> None:  # noqa: ARG002
        line = f"{run.batcher}: batch {run.id}: dead at attempt {run.attempt}: {error.summary}"
        self._failures[by].note(logging.ERROR, f"dead {error.kind}", line)

    def handled(self, *, run: BatchRun, recorded_at_ms: int, is_dead: bool) -> None:
        """Nothing is logged."""
