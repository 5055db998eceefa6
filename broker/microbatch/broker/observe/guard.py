"""The guard of an observer: what it raises does not reach those who tell it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec

from microbatch.broker.observe.observer import Observer
from microbatch.broker.process.loggable import trace

log = logging.getLogger(__name__)
P = ParamSpec("P")


class GuardedObserver:
    """An observer that never raises, as the work goes on whoever looks at it. Its first error is logged."""

    def __init__(self, observer: Observer, batcher: str) -> None:
        self._batcher = batcher
        self._told = False
        self.recorded = self._guarded(observer.recorded)
        self.cut = self._guarded(observer.cut)
        self.taken = self._guarded(observer.taken)
        self.committed = self._guarded(observer.committed)
        self.failed = self._guarded(observer.failed)
        self.dead = self._guarded(observer.dead)
        self.handled = self._guarded(observer.handled)

    def _guarded(self, tell: Callable[P, None]) -> Callable[P, None]:
        def told(*args: P.args, **facts: P.kwargs) -> None:
            try:
                tell(*args, **facts)
            except Exception as error:  # noqa: BLE001 - the work has been done, and is not to seem undone
                self._note(error)

        return told

    def _note(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            with suppress(Exception):  # it may have been the log that raised
                log.error("%s: the observer has failed; the work goes on: %s", self._batcher, trace(error))
