"""The run watch: a thread of the worker that runs while the processor has the main thread.

It reports a run that takes long enough to be shown to people, and ends the process at a second stop signal.
In a worker without a pool it does two more things. It sends the heartbeat for what the worker has claimed. It
ends the process when a run is long past its time limit and the interpreter could not be interrupted (a C
extension that never returns): the batch is run elsewhere, and a new worker replaces this one. With a pool,
the pool does both, because this thread stands still while a processor holds the interpreter's lock.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from microbatch.broker.broker import Broker
from microbatch.broker.process.loggable import trace
from microbatch.broker.process.loop import Loop
from microbatch.broker.state.claims import RqPlace
from microbatch.broker.wire.in_flight import Claim, ClaimedBatch
from microbatch.worker.heartbeat import heartbeat_of
from microbatch.worker.shown import ShownWorker
from microbatch.worker.slot import Description, Slot

log = logging.getLogger(__name__)

_CLOSE_SECONDS = 1.0  # how long to wait for a heartbeat that the server does not answer


class RunWatch:
    """Watches the claims and the current run of one worker process.

    Args:
        broker: the batcher's.
        batch_timeout: the time limit of a run, in seconds.
        slot: a slot that the pool reads to send the heartbeats; without it this sends them.
    """

    def __init__(self, broker: Broker, batch_timeout: float, slot: Slot | None = None) -> None:
        self._broker = broker
        self._name = broker.config.name
        self._timing = broker.timing
        self._limit_seconds = batch_timeout + self._timing.overrun_seconds
        self._slot = slot if slot is not None else Slot()
        self._beats_here = slot is None
        self.heartbeat = heartbeat_of(broker, self._slot)
        self._batch: ClaimedBatch | None = None
        self._since = 0.0
        self._limit_at = inf
        self._told: ClaimedBatch | None = None
        pause = min(self._timing.beat_seconds, self._timing.long_run_seconds) / 2
        self._loop = Loop(self._once, pause, "run watch")
        self._shown: ShownWorker | None = None
        self.on_long_run: Callable[[ClaimedBatch], None] = _nobody_asks
        """Called on the watch's thread, once for each batch whose run takes long."""
        self.on_beat: Callable[[], None] = _nothing
        """Called on the watch's thread, several times a second."""

    def describe(self, rq: RqPlace, worker: str = "", worker_sets: tuple[str, ...] = ()) -> None:
        """Tell the pool what it needs to send heartbeats for this process, and to give back its batches.

        ``worker`` and ``worker_sets`` are the keys that RQ keeps for this worker.
        """
        config = self._broker.config
        about = Description(
                url=config.redis_url or "", key_prefix=config.key_prefix, name=config.name,
                queue=rq.queue, job_prefix=rq.job_prefix,
                ttl_ms=self._timing.run_ttl_ms, beat_seconds=self._timing.beat_seconds,
                shown_seconds=self._timing.shown_worker_seconds,
                worker=worker, worker_sets=worker_sets,
        )  # fmt: skip
        self._slot.describe(about)
        if self._beats_here and worker:
            self._shown = ShownWorker(self._broker.server, about)

    def claiming(self, claim: Claim) -> None:
        """Note that a claim is about to be made. From now on heartbeats are sent for it."""
        self._slot.claim(claim.owner, claim.due_ms)
        self._loop.start()

    def claimed_nothing(self) -> None:
        """Note that the last claim found no batch."""
        self._slot.unclaim()

    @contextmanager
    def beating_for(self, batch: ClaimedBatch) -> Iterator[None]:
        """Within the block, ``batch`` is the current run."""
        self._since = time.monotonic()
        self._limit_at = self._since + self._limit_seconds
        self._slot.begin(batch.run.owner, self._limit_at)
        self._batch = batch
        try:
            yield
        finally:
            self._batch, self._limit_at = None, inf
            self._slot.over()

    def processed(self) -> None:
        """Note that the processor has returned: the run has no limit now, and may wait for the server."""
        self._limit_at = inf
        self._slot.limitless()

    @property
    def is_overdue(self) -> bool:
        """Whether the processor has been running for so long that the process must be ended."""
        return time.monotonic() > self._limit_at

    def close(self) -> None:
        """Stop the watch and its heartbeats. Call it once nothing is claimed."""
        self._loop.stop(_CLOSE_SECONDS)

    def _once(self) -> None:
        self.on_beat()
        batch, since = self._batch, self._since
        if batch is None:
            self._told = None
        elif batch is not self._told and time.monotonic() - since >= self._timing.long_run_seconds:
            self._told = batch
            self._tell(batch)
        if not self._beats_here:
            return
        if batch is not None and self.is_overdue:
            self._end_process(batch)  # before the next heartbeat, which would delay the batch's next run
            return
        self.heartbeat.once()
        if self._shown is not None:
            self._shown.keep()

    def _tell(self, batch: ClaimedBatch) -> None:
        try:
            self.on_long_run(batch)
        except Exception as error:  # noqa: BLE001 - see below
            # No error may end this thread: the worker would be taken for dead.
            log.error("%s: batch %s: its run can't be shown: %s", self._name, batch.id, trace(error))  # noqa: TRY400

    def _end_process(self, batch: ClaimedBatch) -> None:
        log.critical(
            "%s: batch %s: still running %d s past its time limit; ending this worker",
            self._name, batch.id, self._timing.overrun_seconds,
        )  # fmt: skip
        os.kill(os.getpid(), signal.SIGKILL)


def _nobody_asks(batch: ClaimedBatch) -> None:
    """The default of `RunWatch.on_long_run`."""


def _nothing() -> None:
    """The default of `RunWatch.on_beat`."""
