"""The reconciler: compares the ledger with RQ's queue, and enqueues lost batches again.

Every batch in flight has a due time, which the heartbeat of its worker postpones. So a batch that is due has
a worker that died, a job that was lost, or a delay that is over. It is enqueued again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from microbatch.broker.broker import Broker
from microbatch.broker.errors import LeaseLost
from microbatch.broker.observe.outlook import NextStep, Outlook
from microbatch.broker.policy.retry import longest_retry_delay
from microbatch.broker.state.lease import Lease
from microbatch.broker.state.recovery import Survey
from microbatch.broker.wire.batch import RetryLater
from microbatch.broker.wire.in_flight import DueBatch, Unreadable
from microbatch.broker.wire.text import printable
from microbatch.scheduler.burial import Burial
from microbatch.scheduler.gates import Gates
from microbatch.scheduler.probing import Probing
from microbatch.scheduler.queue import JobQueue

log = logging.getLogger(__name__)

_AT_ONCE = 1_000  # batches looked at in one pass; the others are still due at the next
_PER_TRANSACTION = 100  # batches enqueued again in one; each transaction renews the lease
_ONE_BY_ONE = 100  # batches in one pass that need separate round trips
_LONG_QUEUE = 10_000  # batches; a longer queue is read less often


class Reconciler:
    """Looks after the batches in flight of one batcher, for the scheduler that holds its lease."""

    def __init__(self, broker: Broker, queue: JobQueue, lease: Lease, gates: Gates) -> None:
        self._broker = broker
        self._timing = broker.timing
        self._queue = queue
        self._lease = lease
        self._gates = gates
        self._burial = Burial(broker, queue)
        self._probing = Probing(broker, gates)
        self._on_the_way: dict[str, int] = {}
        self._look_again_ms = self._timing.look_again_ms
        self._silence_counts_at = 0.0
        self.next_retry_ms: int | None = None
        """When the next retry is due; None if no retry waits or if there is no room for one."""

    def begin(self) -> None:
        """Start, because the scheduler has just become active.

        If the server was unavailable, no worker could send a heartbeat. So workers get some seconds to do so.
        """
        self._silence_counts_at = time.monotonic() + self._timing.first_sign_seconds

    def run_once(self) -> int:
        """Look at the batches that are due. Returns how many were enqueued again, divided or buried.

        The lease is renewed in the meantime, however many batches there are. Raises LeaseLost and
        ServerError; the next pass finds what was not done.
        """
        # If the server's clock was just set back, due times that were renewed since then seem to be over.
        self._broker.clock.look_again()
        now_ms = self._broker.clock.now_ms()
        self._burial.finish()
        self._bring_nearer(now_ms)
        # While the breaker is open, retries are read too, because they may be out of time.
        retries = _ONE_BY_ONE if self._gates.is_open else min(_AT_ONCE, self._gates.room_for_retries())
        survey = self._broker.recovery.survey(now_ms, retries=retries, others=_AT_ONCE)
        self._gates.update(survey, now_ms)
        if self._gates.room.depends_on_workers:
            self._gates.room.set_workers(self._queue.workers())
        for unreadable in survey.unreadable[:_ONE_BY_ONE]:
            self._quarantine(unreadable)
        first, last = self._sort_silent(survey, now_ms)
        first += self._without_a_job(survey, now_ms)
        again = survey.retries[: self._gates.room_for_retries()]
        late = [
            batch for batch in survey.retries if self._gates.is_open and self._burial.is_late(batch, now_ms)
        ]
        done = self._enqueue(first, now_ms, first=True) + self._enqueue(again, now_ms, first=False)
        for batch in last[:_ONE_BY_ONE]:
            self._stay_active()
            self._burial.after_a_death(batch, now_ms)
        for batch in late[:_ONE_BY_ONE]:
            self._stay_active()
            self._burial.out_of_time(batch, survey.health, now_ms)
        if (probe := self._probing.next(now_ms)) is not None:
            done += self._enqueue([probe], now_ms, first=True)
        # Retries that wait for room are found when there is room.
        self.next_retry_ms = survey.next_retry_ms if self._gates.room_for_retries() else None
        return done + len(last[:_ONE_BY_ONE]) + len(late[:_ONE_BY_ONE])

    def _bring_nearer(self, now_ms: int) -> None:
        """Bring forward due times that were written before the server's clock was set back."""
        brought = self._broker.recovery.clamp(
            now_ms,
            soon_ms=max(self._timing.run_ttl_ms, self._look_again_ms),
            retry_ms=int(longest_retry_delay(self._broker.policy) * 1000),
            asked_ms=RetryLater.most_seconds * 1000,
            limit=_AT_ONCE,
        )
        if brought:
            log.warning(
                "%s: batches due implausibly late, and looked at sooner now: %d (%s%s); "
                "was the server's clock set back?",
                self._broker.config.name, len(brought), brought[0], ", …" if brought[1:] else "",
            )  # fmt: skip

    def _sort_silent(self, survey: Survey, now_ms: int) -> tuple[list[DueBatch], list[DueBatch]]:
        """The batches whose workers have gone silent: those that are run again, and those that are not."""
        again: list[DueBatch] = []
        last: list[DueBatch] = []
        if time.monotonic() < self._silence_counts_at:
            return again, last
        # A batch that is queued and has an owner was postponed at the moment of its claim.
        silent = [*survey.silent, *(batch for batch in survey.queued if batch.run.owner)]
        self._queue.forget_runs([batch.id for batch in silent])
        for batch in silent:
            if self._burial.is_last_death(batch):
                last.append(batch)
            else:
                self._burial.tell_silence(batch)
                again.append(replace(batch, then=batch.run.died(now_ms)))
        return again, last

    def _without_a_job(self, survey: Survey, now_ms: int) -> list[DueBatch]:
        """The batches that wait for a worker and have no job in RQ. The others are postponed."""
        batches = [batch for batch in survey.queued if not batch.run.owner]
        if not batches:
            return []
        # Reading a queue of 500,000 jobs takes a second.
        self._look_again_ms = self._timing.look_again_ms * (1 + survey.with_a_job // _LONG_QUEUE)
        jobs = self._queue.jobs([batch.id for batch in batches], self._stay_active)
        self._on_the_way = {
            batch_id: min(since, now_ms)  # `since` is later only if the server's clock was set back
            for batch_id, since in self._on_the_way.items()
            if batch_id in jobs.on_the_way
        }
        put_off, without = {}, []
        for batch in batches:
            if batch.id in jobs.queued:
                put_off[batch.id] = now_ms + self._look_again_ms
            elif batch.id in jobs.on_the_way and self._may_arrive(batch, now_ms):
                put_off[batch.id] = self._on_the_way[batch.id] + self._timing.on_the_way_ms
            else:
                without.append(batch)
        if put_off:
            self._broker.recovery.reschedule(put_off)
        return without

    def _may_arrive(self, batch: DueBatch, now_ms: int) -> bool:
        return now_ms - self._on_the_way.setdefault(batch.id, now_ms) < self._timing.on_the_way_ms

    def _enqueue(self, batches: Sequence[DueBatch], now_ms: int, *, first: bool) -> int:
        """Give these batches new jobs, with ``first`` before all other jobs."""
        for start in range(0, len(batches), _PER_TRANSACTION):
            some = batches[start : start + _PER_TRANSACTION]
            jobs = self._queue.to_enqueue_again(some, at_front=first)
            with self._lease.fence() as fence:
                enqueued = fence.enqueue_again(some, jobs, due_ms=now_ms + self._timing.look_again_ms)
            self._gates.spend(len(enqueued))
            for batch in enqueued:
                if batch.then.deaths > batch.run.deaths:
                    self._burial.tell_death(batch, Outlook(NextStep.RETRY), now_ms)
                log.debug(
                    "%s: batch %s: enqueued again, runs so far: %d",
                    self._broker.config.name, batch.id, batch.then.runs,
                )  # fmt: skip
        return len(batches)

    def _quarantine(self, unreadable: Unreadable) -> None:
        self._stay_active()
        # There is no place if the batch is already gone.
        if place := self._broker.recovery.quarantine(unreadable.id, unreadable.record):
            log.error(
                "%s: batch %s: it can't be read, and is quarantined as %s",
                self._broker.config.name, printable(unreadable.id), place,
            )  # fmt: skip

    def _stay_active(self) -> None:
        """Renew the lease before a step that may take long."""
        if not self._lease.renew():
            raise LeaseLost("the lease ran out")
