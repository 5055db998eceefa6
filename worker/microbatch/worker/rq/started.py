"""Shows the current run as a started job in ``rq info`` and rq-dashboard."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rq.executions import Execution

from microbatch.broker.wire.in_flight import ClaimedBatch


class StartedRun:
    """The current run, shown as a started job once it takes long.

    The worker's thread begins and ends it, and another thread shows it: ``show`` makes RQ's record of it.
    """

    def __init__(self, show: Callable[[ClaimedBatch], Execution | None]) -> None:
        self._show = show
        self._changing = threading.Lock()
        self._batch: ClaimedBatch | None = None
        self._execution: Execution | None = None

    def begin(self, batch: ClaimedBatch) -> None:
        """Note that a run begins. It is not shown yet."""
        with self._changing:
            self._batch, self._execution = batch, None

    def show(self, batch: ClaimedBatch) -> None:
        """Show a run, unless it is over."""
        with self._changing:
            if batch is self._batch:
                self._execution = self._show(batch)

    def stop(self, batch_id: str | None, stop: Callable[[], None]) -> None:
        """Call ``stop``, unless the current run is of another batch. The run can't end during the call."""
        with self._changing:
            if self._batch is None or self._batch.id == batch_id:
                stop()

    def over(self) -> Execution | None:
        """Note that the run is over. Returns RQ's record of it if it was shown, which must be ended too."""
        with self._changing:
            self._batch = None
            return self._execution
