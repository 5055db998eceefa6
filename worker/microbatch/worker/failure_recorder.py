"""Decides and records what becomes of a batch whose processor raised.

retry ──▶ run again later              while it has retries left, and as long as all batches fail
probe ──▶ one event is run alone       if nothing succeeds, to tell a bad event from an outage
divide ─▶ its halves are run alone     if others succeed, down to the events that really fail
bury ───▶ dead, with its events
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from microbatch.broker.broker import Broker
from microbatch.broker.errors import MicrobatchError
from microbatch.broker.observe.observer import BatchRun, Role
from microbatch.broker.observe.outlook import NextStep, Outlook
from microbatch.broker.policy.health import Health
from microbatch.broker.policy.retry import retry_delay, suspect_delay
from microbatch.broker.policy.verdict import (
    Verdict,
    after_failure,
    is_given_up,
    is_out_of_time,
    isolate,
    judge,
)
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.broker.wire.batch import PartialFailure, Reject, RetryLater
from microbatch.broker.wire.ending import PLAIN_END, Ending, end_of_the_dead
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.identity import root_of
from microbatch.broker.wire.in_flight import ClaimedBatch, Part, halves_of, probe_of
from microbatch.broker.wire.run_record import Mode, RunRecord
from microbatch.worker.named import judge_all, of_an_outage, sort_named
from microbatch.worker.own_results import part_alive
from microbatch.worker.run_report import RunReport
from microbatch.worker.telling import public, run_of, tell_committed
from microbatch.worker.user_errors import begin_at_user_code, formatted, kind_of, summarize

log = logging.getLogger(__name__)


class RunStopped(MicrobatchError):
    """A person stopped the run of a batch."""


class FailureRecorder:
    """Records what becomes of a batcher's failed runs."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._name = broker.config.name
        self._policy = broker.policy

    def record(self, batch: ClaimedBatch, error: BaseException | str) -> RunReport:
        """Record that a run failed. Returns a report of what comes next."""
        now_ms = self._now_ms()
        match error:
            case RunStopped():
                return self._die(batch, error, now_ms)
            case Reject():
                return self._die(batch, error.error, now_ms)
            case RetryLater() if not is_out_of_time(batch.run, self._policy, now_ms):
                return self._put_off(batch, error, now_ms)
        health = self._health_after(batch, error, now_ms)
        then = self._after(batch, health, now_ms)
        verdict = judge(batch.run, batch.header.size, health, self._policy, now_ms)
        if is_given_up(error, self._policy):
            verdict = isolate(batch.header.size, self._policy)
        if verdict is Verdict.RETRY and health.is_open:
            return self._hold_back(batch, then, error, now_ms)
        return self._carry_out(verdict, batch, then, error, now_ms)

    def _hold_back(
        self, batch: ClaimedBatch, then: RunRecord, error: BaseException | str, now_ms: int
    ) -> RunReport:
        """The breaker is open: the batch is due at once, but held back until another batch succeeds."""
        self._record_retry(batch, then, now_ms)
        return self._report(batch, error, Outlook(NextStep.HELD_BACK), now_ms)

    def _carry_out(
        self, verdict: Verdict, batch: ClaimedBatch, then: RunRecord, error: BaseException | str, now_ms: int
    ) -> RunReport:
        wait = suspect_delay if then.mode is Mode.SUSPECT else retry_delay
        delay = wait(then.failures, self._policy)
        due_ms = now_ms + int(delay * 1000)
        match verdict:
            case Verdict.RETRY:
                self._record_retry(batch, then, due_ms)
                return self._report(batch, error, Outlook(NextStep.RETRY, delay), now_ms)
            case Verdict.PROBE:
                parts = probe_of(batch, then, now_ms, due_ms)
                self._divide(batch, parts)
                return self._report(batch, error, Outlook(NextStep.PROBE, parts=parts), now_ms)
            case Verdict.DIVIDE:
                parts = halves_of(batch, then, now_ms)
                self._divide(batch, parts)
                return self._report(batch, error, Outlook(NextStep.HALVES, parts=parts), now_ms)
            case Verdict.BURY:
                return self._die(batch, error, now_ms)

    def _health_after(self, batch: ClaimedBatch, error: BaseException | str, now_ms: int) -> Health:
        """The row of failures, including this one unless its events are known to be bad."""
        breaker, mode = self._broker.breaker, batch.run.mode
        if mode in (Mode.ISOLATING, Mode.SUSPECT) or is_given_up(error, self._policy):
            return retry_until_answered(self._name, breaker.health)
        probe, root, kind = mode is Mode.PROBE, root_of(batch.id), kind_of(error)
        return retry_until_answered(
            self._name, lambda: breaker.note_failure(root, kind, now_ms=now_ms, probe=probe)
        )

    def _after(self, batch: ClaimedBatch, health: Health, now_ms: int) -> RunRecord:
        return after_failure(batch.run, batch.header.size, health, self._policy, now_ms)

    def _put_off(self, batch: ClaimedBatch, later: RetryLater, now_ms: int) -> RunReport:
        """The processor said how long to wait before the next run."""
        then = batch.run.failed(now_ms, charged=False, done=batch.run.done, mode=Mode.LATER)
        self._record_retry(batch, then, now_ms + int(later.seconds * 1000))
        return self._report(batch, later, Outlook(NextStep.ASKED, later.seconds), now_ms)

    def _record_retry(self, batch: ClaimedBatch, then: RunRecord, due_ms: int) -> None:
        retry_until_answered(self._name, lambda: self._broker.ledger.retry(batch, then, due_ms=due_ms))

    def _divide(self, batch: ClaimedBatch, parts: Sequence[Part], ending: Ending = PLAIN_END) -> None:
        """Replace the batch by its parts. Events that are in none of them are done."""
        divide = self._broker.ledger.divide
        is_ours = retry_until_answered(self._name, lambda: divide(batch.id, batch.run, parts, ending))
        done = batch.header.size - sum(part.header.size for part in parts) - ending.expired
        if is_ours and done:
            tell_committed(self._broker, batch, done)

    def _die(self, batch: ClaimedBatch, error: BaseException | str, now_ms: int) -> RunReport:
        dead: ClaimedBatch | Part = batch
        bury_by_ms = now_ms + self._broker.timing.run_ttl_ms
        if self._broker.config.per_event and (alive := part_alive(batch, now_ms, due_ms=bury_by_ms)):
            dead, ending = alive
            self._divide(batch, [dead], ending)
        if self._bury(dead, dead.run, _events_of(batch, dead), error) is None:
            return self._report(batch, error, Outlook(NextStep.NONE), now_ms)
        cause = error if isinstance(error, BaseException) else None
        return RunReport(
            f"dead at attempt {batch.run.attempt}: {summarize(error)}", is_dead=True, error=cause
        )

    def record_partial(self, batch: ClaimedBatch, partial: PartialFailure, ending: Ending) -> RunReport:
        """Record that some events failed and the others are done. Returns a report of what comes next."""
        now_ms, attempt, size = self._now_ms(), batch.run.attempt, batch.header.size
        if size == 1 and partial.errors:
            (error,) = partial.errors.values()
            return self.record(batch, error)
        health = Health(done=batch.run.done)
        suspect = of_an_outage(batch, partial, self._policy, now_ms, expired=ending.expired)
        if suspect is not None:
            health = self._health_after(batch, suspect, now_ms)
        then = self._after(batch, health, now_ms)
        if suspect is not None and (verdict := judge_all(batch, then, health, self._policy, now_ms)):
            if health.is_open:
                return self._hold_back(batch, then, suspect, now_ms)
            return self._carry_out(verdict, batch, then, suspect, now_ms)
        bury_by_ms = now_ms + self._broker.timing.run_ttl_ms
        again, dead = sort_named(batch, partial.errors, then, self._policy, now_ms, bury_by_ms=bury_by_ms)
        self._divide(batch, [*again, *(part for part, _ in dead)], ending)
        buried = [
            (part, failure)
            for part, error in dead
            if (failure := self._bury(part, part.run, _events_of(batch, part), error)) is not None
        ]
        if dead and not buried:
            return self._report(batch, partial, Outlook(NextStep.NONE), now_ms)
        events = sum(len(part.positions) for part, _ in dead)
        first = min((part.due_ms for part in again), default=now_ms)
        outlook = Outlook(NextStep.NAMED, (first - now_ms) / 1000, again, events)
        if not dead:
            return self._report(batch, partial, outlook, now_ms)
        if again:
            self._tell_failed(batch, partial, outlook, now_ms)
        return RunReport(
            f"{events} of {size} events dead at attempt {attempt}",
            is_dead=True,
            error=partial,
            dead_parts=buried,
        )

    def _bury(
        self, batch: ClaimedBatch | Part, run: RunRecord, events: Sequence[bytes], error: BaseException | str
    ) -> Failure | None:
        attempt = run.attempt if isinstance(batch, ClaimedBatch) else run.runs
        failure = Failure(summarize(error), formatted(error), attempt)
        ending = end_of_the_dead(batch.id, batch.header, failure, events)
        now_ms, name, bury = self._now_ms(), self._name, self._broker.ledger.bury
        if not retry_until_answered(name, lambda: bury(batch.id, run, failure, ending, now_ms=now_ms)):
            return None
        dead = BatchRun(name, batch.id, batch.header, attempt)
        self._broker.observer.dead(run=dead, error=public(error), by=Role.WORKER, at_ms=now_ms)
        return failure

    def _now_ms(self) -> int:
        return retry_until_answered(self._name, self._broker.clock.now_ms)

    def _report(
        self, batch: ClaimedBatch, error: BaseException | str, outlook: Outlook, now_ms: int
    ) -> RunReport:
        if isinstance(error, BaseException):
            begin_at_user_code(error)
        self._tell_failed(batch, error, outlook, now_ms)
        log.debug("%s: batch %s: %s", self._name, batch.id, error)
        then = outlook.describe(batch.header.size)
        return RunReport(f"attempt {batch.run.attempt} failed, {then}: {summarize(error)}")

    def _tell_failed(
        self, batch: ClaimedBatch, error: BaseException | str, outlook: Outlook, now_ms: int
    ) -> None:
        run, told = run_of(self._broker, batch), public(error)
        self._broker.observer.failed(run=run, error=told, outlook=outlook, by=Role.WORKER, at_ms=now_ms)


def _events_of(batch: ClaimedBatch, part: ClaimedBatch | Part) -> list[bytes]:
    if isinstance(part, ClaimedBatch):
        return part.events
    return [batch.events[position] for position in part.positions]
