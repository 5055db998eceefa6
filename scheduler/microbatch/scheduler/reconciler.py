"""The reconciler: holds the ledger against RQ, and runs what would else stand still.

Every batch in flight has a due time. A worker at it pushes that on; a retry waits for it; so what
comes due has a worker that died, a job that got lost, or a delay that is over, and is enqueued again.
"""

from __future__ import annotations

import logging

from microbatch.broker.broker import Broker
from microbatch.broker.ledger import DueBatch, halves_of
from microbatch.broker.policy import Verdict, judge
from microbatch.broker.results import Outcome
from microbatch.broker.wire import Failure, printable
from microbatch.scheduler.queue import JobQueue

log = logging.getLogger(__name__)

LOOK_AGAIN_MS = 8_000
"""How long a batch that waits in RQ's queue is left alone."""
ON_THE_WAY_MS = 3_000
"""How long a worker may take from the queue to the batch."""
_AT_ONCE = 1_000


class Reconciler:
    """Looks after the batches in flight of one batcher."""

    def __init__(self, broker: Broker, queue: JobQueue, token: str) -> None:
        self._broker = broker
        self._queue = queue
        self._token = token
        self._on_the_way: dict[str, int] = {}

    def run_once(self) -> int:
        """Look at what is due. Returns the number of batches that were enqueued again or given up.

        Raises LeaseLost and ServerError; what was not done is found again.
        """
        now_ms = self._broker.clock.now_ms()
        found = self._broker.ledger.due(now_ms, _AT_ONCE)
        for unreadable in found.unreadable:
            if aside := self._broker.ledger.put_aside(unreadable.id, unreadable.record):  # else it has gone
                log.error(
                    "%s: batch %s: it can't be read, and is put aside as %s",
                    self._broker.config.name, printable(unreadable.id), aside,
                )  # fmt: skip
        due = found.batches
        queued: frozenset[str] = frozenset()
        on_the_way: frozenset[str] = frozenset()
        if any(not batch.run.owner for batch in due):
            queued, on_the_way = self._queue.queued(), self._queue.on_the_way()
            self._on_the_way = {
                batch_id: since for batch_id, since in self._on_the_way.items() if batch_id in on_the_way
            }
        waits = [batch.id for batch in due if not batch.run.owner and batch.id in queued]
        if waits:
            self._broker.ledger.postpone(waits, now_ms + LOOK_AGAIN_MS)
        acted = 0
        for batch in due:
            if not batch.run.owner and batch.id in queued:
                continue
            if not batch.run.owner and batch.id in on_the_way and self._may_arrive(batch, now_ms):
                continue
            self._resume(batch, now_ms)
            acted += 1
        return acted

    def _may_arrive(self, batch: DueBatch, now_ms: int) -> bool:
        since = self._on_the_way.setdefault(batch.id, now_ms)
        if now_ms - since >= ON_THE_WAY_MS:
            return False
        self._broker.ledger.postpone([batch.id], since + ON_THE_WAY_MS)
        return True

    def _resume(self, batch: DueBatch, now_ms: int) -> None:
        """Have a batch run that nobody is at; if its workers died of it too often, find what is to blame."""
        config, verdict = self._broker.config, Verdict.RETRY
        if batch.run.owner:
            log.warning("%s: batch %s: its worker %s has gone silent", config.name, batch.id, batch.run.owner)
            verdict = judge(batch.run.attempt, batch.header.size, config)
        match verdict:
            case Verdict.RETRY:
                self._enqueue_again(batch, now_ms)
            case Verdict.DIVIDE:
                self._broker.ledger.divide(batch.id, batch.run, halves_of(batch, due_ms=now_ms))
            case Verdict.BURY:
                self._bury(batch, now_ms)

    def _enqueue_again(self, batch: DueBatch, now_ms: int) -> None:
        self._broker.ledger.enqueue_again(
            batch, due_ms=now_ms + LOOK_AGAIN_MS, token=self._token, enqueue=self._queue.enqueue_again
        )
        log.info(
            "%s: batch %s: enqueued again, attempts so far: %d",
            self._broker.config.name,
            batch.id,
            batch.run.attempt,
        )

    def _bury(self, batch: DueBatch, now_ms: int) -> None:
        failure = Failure(
            f"its worker {batch.run.owner} died or went silent while running it", "", batch.run.attempt
        )
        recorded_at_ms = self._broker.ledger.recorded_at_ms(batch)
        outcome = Outcome(batch.id, batch.header, batch.run.attempt, recorded_at_ms, failure=failure)
        if self._broker.ledger.bury(batch.id, batch.run, failure, outcome.encode(), now_ms=now_ms):
            self._queue.show_as_failed(batch, failure.error)
            log.error(
                "%s: batch %s: dead at attempt %d: %s",
                self._broker.config.name, batch.id, batch.run.attempt, failure.error,
            )  # fmt: skip
