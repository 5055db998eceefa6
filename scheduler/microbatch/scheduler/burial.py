"""Burial: the scheduler buries batches that no worker can bury.

These are batches that killed too many workers, and batches that ran out of time while the breaker was open.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from microbatch.broker.app.durations import duration_text
from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.observe.observer import BatchRun, PublicError, Role
from microbatch.broker.observe.outlook import NextStep, Outlook
from microbatch.broker.policy.health import Health
from microbatch.broker.policy.verdict import Verdict, is_out_of_time, judge_death
from microbatch.broker.process.failure_log import FailureLog
from microbatch.broker.transport.backoff import PASSING
from microbatch.broker.wire.ending import Ending, end_of_the_dead
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.in_flight import DueBatch, halves_of
from microbatch.broker.wire.text import printable
from microbatch.scheduler.queue import JobQueue

log = logging.getLogger(__name__)

_DEATH = "death"


@dataclass(frozen=True, slots=True)
class _Grave:
    """A batch that must be buried, and is then shown among RQ's failed jobs."""

    batch: DueBatch
    failure: Failure
    ending: Ending
    now_ms: int
    kind: str


class Burial:
    """Buries batches of one batcher, for the scheduler that holds its lease."""

    def __init__(self, broker: Broker, queue: JobQueue) -> None:
        self._broker = broker
        self._name = broker.config.name
        self._policy = broker.policy
        self._queue = queue
        self._log = FailureLog(log)
        self._unfinished: list[_Grave] = []

    def is_last_death(self, batch: DueBatch) -> bool:
        """Whether a batch whose worker has gone silent must be divided or buried, instead of run again."""
        return judge_death(batch.run, batch.header.size, self._policy) is not Verdict.RETRY

    def is_late(self, batch: DueBatch, now_ms: int) -> bool:
        """Whether a batch has failed for ``retry_for``."""
        return is_out_of_time(batch.run, self._policy, now_ms)

    def tell_silence(self, batch: DueBatch) -> None:
        """Log that a worker has gone silent."""
        owner = printable(batch.run.owner)
        line = f"{self._name}: batch {batch.id}: its worker {owner} has gone silent"
        self._log.note(logging.WARNING, "silent", line)

    def after_a_death(self, batch: DueBatch, now_ms: int) -> None:
        """Divide or bury a batch whose workers died of it too often."""
        self.tell_silence(batch)
        then = batch.run.died(now_ms)
        if judge_death(batch.run, batch.header.size, self._policy) is Verdict.DIVIDE:
            halves = halves_of(batch, then, now_ms)
            if self._broker.ledger.divide(batch.id, batch.run, halves):
                self.tell_death(batch, Outlook(NextStep.HALVES, parts=halves), now_ms)
        else:
            self._bury(batch, Failure(_death_of(batch), "", then.runs), _DEATH, now_ms)

    def tell_death(self, batch: DueBatch, outlook: Outlook, now_ms: int) -> None:
        """Tell the observer what happens next to a batch whose worker has gone silent."""
        run = BatchRun(self._name, batch.id, batch.header, batch.run.attempt)
        error = PublicError(_DEATH, printable(_death_of(batch)))
        self._broker.observer.failed(run=run, error=error, outlook=outlook, by=Role.SCHEDULER, at_ms=now_ms)

    def out_of_time(self, batch: DueBatch, health: Health, now_ms: int) -> None:
        """Bury a whole batch whose time for retries has passed while the breaker was open."""
        error = f"{health.kind}: it could not be processed for {duration_text(self._policy.retry_for)}"
        self._bury(batch, Failure(error, "", batch.run.runs), "out of time", now_ms)

    def finish(self) -> None:
        """Bury the batches that an earlier pass tried to bury, if the reply was lost.

        Such a batch may be dead already, and would then never be due again. Raises ServerError. The next pass
        tries again, unless the server has refused for good.
        """
        while self._unfinished:
            self._finish(self._unfinished[0])

    def _bury(self, batch: DueBatch, failure: Failure, kind: str, now_ms: int) -> None:
        events = self._broker.recovery.events(batch, first_only=not self._broker.config.per_event)
        ending = end_of_the_dead(batch.id, batch.header, failure, events)
        grave = _Grave(batch, failure, ending, now_ms, kind)
        self._unfinished.append(grave)
        self._finish(grave)

    def _finish(self, grave: _Grave) -> None:
        batch, failure = grave.batch, grave.failure
        try:
            bury = self._broker.ledger.bury
            if bury(batch.id, batch.run, failure, grave.ending, now_ms=grave.now_ms):
                self._queue.show_as_failed(batch, failure)
                run = BatchRun(self._name, batch.id, batch.header, failure.attempts)
                error = PublicError(grave.kind, printable(failure.error))
                self._broker.observer.dead(run=run, error=error, by=Role.SCHEDULER, at_ms=grave.now_ms)
        except PASSING:
            raise
        except ServerError:  # a repetition would be refused too, and would block all other work
            self._unfinished.remove(grave)
            raise
        self._unfinished.remove(grave)


def _death_of(batch: DueBatch) -> str:
    return f"its worker {batch.run.owner} died or went silent while running it"
