"""The guard of an observer: what it raises does not reach those who tell it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from microbatch.broker.observe.observer import BatchRun, Observer, PublicError, Role
from microbatch.broker.observe.outlook import Outlook
from microbatch.broker.process.loggable import trace
from microbatch.broker.wire.in_flight import NewBatch

log = logging.getLogger(__name__)


class GuardedObserver(Observer):
    """An observer that never raises, as the work goes on whoever looks at it. Its first error is logged.

    The methods are written out: one wrapper for all of them takes three times as long, at each event.
    """

    def __init__(self, observer: Observer, batcher: str) -> None:
        self._observer = observer
        self.sees_success = observer.sees_success
        self._batcher = batcher
        self._has_failed = False

    def recorded(self, *, batcher: str, count: int, waiting: int) -> None:
        try:
            self._observer.recorded(batcher=batcher, count=count, waiting=waiting)
        except Exception as raised:  # noqa: BLE001 - what it is told of has been done all the same
            self._note(raised)

    def cut(self, *, batcher: str, batches: Sequence[NewBatch]) -> None:
        try:
            self._observer.cut(batcher=batcher, batches=batches)
        except Exception as raised:  # noqa: BLE001 - what it is told of has been done all the same
            self._note(raised)

    def taken(self, *, run: BatchRun, at_ms: int, recorded_at_ms: int) -> None:
        try:
            self._observer.taken(run=run, at_ms=at_ms, recorded_at_ms=recorded_at_ms)
        except Exception as raised:  # noqa: BLE001 - what it is told of has been done all the same
            self._note(raised)

    def committed(self, *, run: BatchRun, events: int, recorded_at_ms: int) -> None:
        try:
            self._observer.committed(run=run, events=events, recorded_at_ms=recorded_at_ms)
        except Exception as raised:  # noqa: BLE001 - what it is told of has been done all the same
            self._note(raised)

    def failed(self, *, run: BatchRun, error: PublicError, outlook: Outlook, by: Role, at_ms: int) -> None:
        try:
            self._observer.failed(run=run, error=error, outlook=outlook, by=by, at_ms=at_ms)
        except Exception as raised:  # noqa: BLE001 - what it is told of has been done all the same
            self._note(raised)

    def dead(self, *, run: BatchRun, error: PublicError, by: Role, at_ms: int) -> None:
        try:
            self._observer.dead(run=run, error=error, by=by, at_ms=at_ms)
        except Exception as raised:  # noqa: BLE001 - what it is told of has been done all the same
            self._note(raised)

    def handled(self, *, run: BatchRun, recorded_at_ms: int, is_dead: bool) -> None:
        try:
            self._observer.handled(run=run, recorded_at_ms=recorded_at_ms, is_dead=is_dead)
        except Exception as raised:  # noqa: BLE001 - what it is told of has been done all the same
            self._note(raised)

    def _note(self, raised: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            with suppress(Exception):  # it may have been the log that raised
                log.error("%s: the observer has failed; the work goes on: %s", self._batcher, trace(raised))
