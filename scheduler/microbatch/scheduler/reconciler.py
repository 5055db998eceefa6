"""The reconciler: holds the ledger against RQ, and runs what would else stand still.

Every batch in flight has a due time. A worker at it pushes that on; a retry waits for it; so what
comes due has a worker that died, a job that got lost, or a delay that is over, and is enqueued again.
"""

from __future__ import annotations

import logging

from microbatch.broker.broker import Broker
from microbatch.broker.errors import LeaseLost
from microbatch.broker.in_flight import DueBatch, Unreadable, halves_of
from microbatch.broker.lease import Lease
from microbatch.broker.policy import RUN_TTL_MS, Verdict, judge, longest_retry_delays
from microbatch.broker.results import Outcome
from microbatch.broker.wire import Failure, printable
from microbatch.scheduler.queue import JobQueue

log = logging.getLogger(__name__)

LOOK_AGAIN_MS = 8_000
"""How long a batch that waits in RQ's queue is left alone."""
ON_THE_WAY_MS = 3_000
"""How long a worker may take from the queue to the batch."""
_AT_ONCE = 1_000  # batches looked at in one pass; the others are still due at the next
_PER_TRANSACTION = 100  # batches enqueued again in one; the lease is prolonged by each
_ONE_BY_ONE = 100  # batches in one pass that each take round trips of their own


class Reconciler:
    """Looks after the batches in flight of one batcher, for the scheduler that holds its lease."""

    def __init__(self, broker: Broker, queue: JobQueue, lease: Lease) -> None:
        self._broker = broker
        self._queue = queue
        self._lease = lease
        self._on_the_way: dict[str, int] = {}
        self._delays_ms = [int(seconds * 1000) for seconds in longest_retry_delays(broker.config)]
        self._far_below = "+inf"

    def run_once(self) -> int:
        """Look at what is due. Returns the number of batches that were enqueued again or given up.

        However many there are, the lease is kept meanwhile. Raises LeaseLost and ServerError; what was not
        done is found again.
        """
        # When the server's clock has just been set back, what a worker renewed since then lies in our past.
        self._broker.clock.look_again()
        now_ms = self._broker.clock.now_ms()
        self._bring_nearer(now_ms)
        found = self._broker.ledger.due(now_ms, _AT_ONCE)
        for unreadable in found.unreadable[:_ONE_BY_ONE]:
            self._put_aside(unreadable)
        again = self._without_a_job([batch for batch in found.batches if not batch.run.owner], now_ms)
        given_up = []
        for batch in found.batches:
            if batch.run.owner:
                verdict = judge(batch.run.attempt, batch.header.size, self._broker.config)
                if verdict is Verdict.RETRY:
                    self._tell_silence(batch)
                    again.append(batch)
                else:
                    given_up.append((batch, verdict))
        for start in range(0, len(again), _PER_TRANSACTION):
            self._enqueue_again(again[start : start + _PER_TRANSACTION], now_ms)
        for batch, verdict in given_up[:_ONE_BY_ONE]:
            self._give_up(batch, verdict, now_ms)
        return len(again) + len(given_up[:_ONE_BY_ONE])

    def _bring_nearer(self, now_ms: int) -> None:
        """Have nobody wait for a due time of before the server's clock was set back."""
        brought, self._far_below = self._broker.ledger.clamp(
            now_ms,
            soon_ms=max(RUN_TTL_MS, LOOK_AGAIN_MS),
            delays_ms=self._delays_ms,
            limit=_AT_ONCE,
            below=self._far_below,
        )
        if brought:
            log.warning(
                "%s: batches due implausibly late, and looked at sooner now: %d (%s%s); "
                "was the server's clock set back?",
                self._broker.config.name, len(brought), brought[0], ", …" if brought[1:] else "",
            )  # fmt: skip

    def _without_a_job(self, batches: list[DueBatch], now_ms: int) -> list[DueBatch]:
        """Those of these batches, which nobody runs, that have no job in RQ. The others are put off."""
        if not batches:
            return []
        jobs = self._queue.jobs()
        self._on_the_way = {
            batch_id: min(since, now_ms)  # which is later only if the server's clock was set back
            for batch_id, since in self._on_the_way.items()
            if batch_id in jobs.on_the_way
        }
        put_off, without = {}, []
        for batch in batches:
            if batch.id in jobs.queued:
                put_off[batch.id] = now_ms + LOOK_AGAIN_MS
            elif batch.id in jobs.on_the_way and self._may_arrive(batch, now_ms):
                put_off[batch.id] = self._on_the_way[batch.id] + ON_THE_WAY_MS
            else:
                without.append(batch)
        if put_off:
            self._broker.ledger.postpone(put_off)
        return without

    def _may_arrive(self, batch: DueBatch, now_ms: int) -> bool:
        return now_ms - self._on_the_way.setdefault(batch.id, now_ms) < ON_THE_WAY_MS

    def _tell_silence(self, batch: DueBatch) -> None:
        log.warning(
            "%s: batch %s: its worker %s has gone silent",
            self._broker.config.name, batch.id, printable(batch.run.owner),
        )  # fmt: skip

    def _enqueue_again(self, batches: list[DueBatch], now_ms: int) -> None:
        enqueued = self._broker.ledger.enqueue_again(
            batches,
            due_ms=now_ms + LOOK_AGAIN_MS,
            token=self._lease.token,
            lease_ttl_ms=self._lease.ttl_ms,
            enqueue=self._queue.enqueue_again,
        )
        for batch in enqueued:
            log.info(
                "%s: batch %s: enqueued again, attempts so far: %d",
                self._broker.config.name, batch.id, batch.run.attempt,
            )  # fmt: skip

    def _give_up(self, batch: DueBatch, verdict: Verdict, now_ms: int) -> None:
        """Divide or bury a batch whose workers died of it too often."""
        self._stay_active()
        self._tell_silence(batch)
        if verdict is Verdict.DIVIDE:
            self._broker.ledger.divide(batch.id, batch.run, halves_of(batch, due_ms=now_ms))
        else:
            self._bury(batch, now_ms)

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

    def _put_aside(self, unreadable: Unreadable) -> None:
        self._stay_active()
        if aside := self._broker.ledger.put_aside(unreadable.id, unreadable.record):  # else it has gone
            log.error(
                "%s: batch %s: it can't be read, and is put aside as %s",
                self._broker.config.name, printable(unreadable.id), aside,
            )  # fmt: skip

    def _stay_active(self) -> None:
        """Keep the lease through what may take long."""
        if not self._lease.renew():
            raise LeaseLost("the lease ran out")
