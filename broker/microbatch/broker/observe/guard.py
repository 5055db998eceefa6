"""The guard of an observer: the errors that it raises do not reach its callers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from microbatch.broker.observe.observer import BatchRun, Observer, PublicError, Role
from microbatch.broker.observe.outlook import Outlook
from microbatch.broker.process.loggable import trace
from microbatch.broker.wire.in_flight import NewBatch

log = logging.getLogger(__name__)


class GuardedObserver(Observer):
    """Passes each change on to an observer, and never raises. The observer's first error is logged."""

    def __init__(self, observer: Observer, batcher: str) -> None:
        self._observer = observer
        self.sees_success = observer.sees_success
        self._batcher = batcher
        self._has_failed = False

    def recorded(self, *, batcher: str, count: int, waiting: int) -> None:
        self._tell(lambda observer: observer.recorded(batcher=batcher, count=count, waiting=waiting))

    def cut(self, *, batcher: str, batches: Sequence[NewBatch]) -> None:
        self._tell(lambda observer: observer.cut(batcher=batcher, batches=batches))

    def claimed(self, *, run: BatchRun, at_ms: int, recorded_at_ms: int) -> None:
        self._tell(lambda observer: observer.claimed(run=run, at_ms=at_ms, recorded_at_ms=recorded_at_ms))

    def committed(self, *, run: BatchRun, events: int, recorded_at_ms: int) -> None:
        self._tell(lambda observer: observer.committed(run=run, events=events, recorded_at_ms=recorded_at_ms))

    def failed(self, *, run: BatchRun, error: PublicError, outlook: Outlook, by: Role, at_ms: int) -> None:
        self._tell(
            lambda observer: observer.failed(run=run, error=error, outlook=outlook, by=by, at_ms=at_ms)
        )

    def dead(self, *, run: BatchRun, error: PublicError, by: Role, at_ms: int) -> None:
        self._tell(lambda observer: observer.dead(run=run, error=error, by=by, at_ms=at_ms))

    def handled(self, *, run: BatchRun, recorded_at_ms: int, is_dead: bool) -> None:
        self._tell(lambda observer: observer.handled(run=run, recorded_at_ms=recorded_at_ms, is_dead=is_dead))

    def _tell(self, change: Callable[[Observer], None]) -> None:
        try:
            change(self._observer)
        except Exception as raised:  # noqa: BLE001 - the change has been made, whatever an observer does
            self._note(raised)

    def _note(self, raised: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            with suppress(Exception):  # the log itself may have raised
                log.error("%s: the observer has failed; the work goes on: %s", self._batcher, trace(raised))
