"""Everything that can happen to events, in any order, against a simple model: each event is in one place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from microbatch.broker.errors import BatcherFull, LeaseLost
from microbatch.broker.inspect.audit import Audit
from microbatch.broker.policy.health import Health
from microbatch.broker.policy.verdict import Verdict, after_failure, is_out_of_time, judge, others_succeed
from microbatch.broker.state.claims import claim_of
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.connection import open_client
from microbatch.broker.transport.request import Value
from microbatch.broker.wire import identity
from microbatch.broker.wire.batch import PartialFailure
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.event import encode_event
from microbatch.broker.wire.in_flight import ClaimedBatch
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.run_record import Mode, RunRecord
from microbatch.scheduler.scheduler import Scheduler
from tests.conftest import MakeServer
from tests.times import hurry
from tests.unit.model import (
    MAX_SIZE,
    MAX_WAITING,
    RUN_MS,
    WINDOW_MS,
    InFlight,
    Modelled,
    SameSecrets,
    never_reconciles,
)
from tests.unit.steps import values_of


@pytest.fixture(autouse=True)
def the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order batches that are due at the same moment by their ids, and use no time but the manual clock."""
    monkeypatch.setattr(identity, "secrets", SameSecrets)
    hurry(monkeypatch, first_sign_seconds=0.0)


@pytest.fixture(autouse=True)
def on_a_real_server(make_server: MakeServer) -> Iterator[None]:
    with open_client(make_server().socket_url) as Modelled.client:
        yield


some = st.integers(0, 7)  # an index into what exists, newest first
outcomes_of_runs = st.sampled_from(["done", "failed", "failed", "failed in part", "alive", "silent"])


class Microbatch(Modelled):
    """Two schedulers, any number of workers (also dead ones), two consumers, and an operator."""

    # --- producers

    @rule(
        count=st.integers(0, 7),
        how=st.sampled_from(["plainly", "if there is room", "once"]),
        which=st.integers(0, 1),
        why=st.sampled_from(["size", "tick", "flush", ""]),
    )
    def record_and_cut(self, count: int, how: str, which: int, why: str) -> None:
        if count:
            self.record(count, how)
        if why:
            self.cut(which, why)

    def record(self, count: int, how: str) -> None:
        if how == "once":
            self.record_once(count)
            return
        events, too_many = self.new_events(count), len(self.model.waiting) + count > MAX_WAITING
        if how == "if there is room" and too_many:
            with pytest.raises(BatcherFull):
                self.bounded.events.record(events)
            return
        (self.broker if how == "plainly" else self.bounded).events.record(events)
        self.keep_new(count)

    def record_once(self, count: int) -> None:
        event_id = f"id {count}"
        known = self.clock.ms - self.seen.get(event_id, -WINDOW_MS) < WINDOW_MS
        if known or len(self.model.waiting) < MAX_WAITING:
            assert (self.bounded.events.record(self.new_events(1), event_id=event_id) == 0) == known
            if not known:
                self.seen[event_id] = self.clock.ms
                self.keep_new(1)

    def new_events(self, count: int) -> list[bytes]:
        numbers = range(self.recorded, self.recorded + count)
        return [encode_event(json.dumps(number).encode(), self.clock.ms) for number in numbers]

    def keep_new(self, count: int) -> None:
        self.model.waiting += range(self.recorded, self.recorded + count)
        self.recorded += count

    # --- schedulers

    def cut(self, which: int, why: str) -> None:
        scheduler = self.schedulers[which]
        scheduler._stopping.wait = lambda _seconds: False  # type: ignore[method-assign,assignment,misc]
        if self.leader is None and not scheduler.active:
            self.leader = scheduler
            assert scheduler._is_active_now()
            never_reconciles(scheduler)
            self.was_reconciled(scheduler)
        if why == "flush":
            self.listener.wake(Wake.FLUSH)
        elif why == "tick":
            self.ticker.tick()
        for each in self.schedulers:
            never_reconciles(each)
        room = scheduler._gates.room_for_cuts() if scheduler.active else 0
        cut = [
            tuple(self.model.waiting[start : start + MAX_SIZE])
            for start in range(0, len(self.model.waiting), MAX_SIZE)
            if why != "size" or scheduler._cutter.owed or start + MAX_SIZE <= len(self.model.waiting)
        ]
        try:
            made = scheduler.run_once()
        except LeaseLost:
            assert scheduler is not self.leader
            scheduler._stand_by()
            made = 0
        self.listener.close()
        self.ticker.ticked(0)
        del cut[0 if scheduler is not self.leader else room :]
        assert made == len(cut)
        del self.model.waiting[: sum(map(len, cut))]
        self.batches_appear(InFlight(events) for events in cut)

    @rule(what=st.sampled_from(["lease", "reconcile", "reconcile", "jobs", "time"]))
    def something_happens(self, what: str) -> None:
        match what:
            case "lease":
                self.the_lease_runs_out()
            case "reconcile":
                self.clock.advance(RUN_MS)
                self.reconcile()
            case "jobs":
                self.client.delete("rq:queue:mb:letters")
            case "time":
                self.clock.advance(WINDOW_MS // 2)

    def the_lease_runs_out(self) -> None:
        self.client.delete(self.broker.keys.lease)
        self.leader = None

    def reconcile(self) -> None:
        if self.leader is not None:
            self.leader._reconciler.run_once()
            self.was_reconciled(self.leader)

    def was_reconciled(self, leader: Scheduler) -> None:
        parts = self.end_silent_runs()
        if leader._gates.is_open:
            self.probe_or_bury(parts)
        else:
            self.batches_appear(parts)

    def end_silent_runs(self) -> list[InFlight]:
        """Apply what happens to batches whose workers went silent. Returns the parts that are new."""
        parts = []
        for batch_id, batch in list(self.model.in_flight.items()):
            if not batch.owner or batch.alive_until > self.clock.ms:
                continue
            then = batch.run.died(self.clock.ms)
            if then.deaths <= self.max_retries:
                batch.run, batch.owner = then, ""
            elif len(batch.events) > 1:
                parts += self.halves(batch_id, then)
            else:
                self.model.die(batch_id)
        return parts

    def probe_or_bury(self, parts: list[InFlight]) -> None:
        """While all batches fail, the scheduler tries one event, and buries what is out of time."""
        there = self.broker.ledger.in_flight()
        for batch_id, batch in list(self.model.in_flight.items()):
            if batch_id in there:
                continue
            assert not batch.owner
            if self.client.exists(self.broker.keys.batch(batch_id)):
                assert is_out_of_time(batch.run, self.broker.policy, self.clock.ms)
                self.model.die(batch_id)
            else:
                parts.append(self.model.in_flight.pop(batch_id))
        new = self.new_on_the_server()
        probed = [part for part in parts if part.events not in new]
        assert len(probed) <= 1
        probes = [half for part in probed for half in self.probe(part.events, part.run)]
        self.batches_appear([part for part in parts if part.events in new] + probes)
        for batch_id, batch in self.model.in_flight.items():
            record = RunRecord.decode(self.client.lindex(self.broker.keys.batch(batch_id), 1))
            if len(batch.events) == 1 and record.mode is Mode.PROBE and not record.owner:
                batch.run = replace(batch.run, mode=Mode.PROBE)

    # --- workers

    @precondition(lambda self: self.has_jobs())
    @rule(outcome=outcomes_of_runs, then=outcomes_of_runs)
    def work(self, outcome: str, then: str) -> None:
        job = self.client.lpop("rq:queue:mb:letters")
        if self.claim(job.decode()):
            self.end(self.runs[-1], outcome)
            self.end(self.runs[-1], then)

    @precondition(lambda self: self.runs)
    @rule(which=some, outcome=outcomes_of_runs)
    def end_any(self, which: int, outcome: str) -> None:
        there = {*self.model.in_flight, *self.model.dead}
        runs = [run for run in self.runs if run.id in there] or self.runs
        self.end(runs[-1 - which % len(runs)], outcome)

    def end(self, run: ClaimedBatch, outcome: str) -> None:
        """End a run. It may already be over, or have lost its batch to another."""
        self.clock.advance(1)  # the same burial at the same moment would count as one whose reply was lost
        match outcome:
            case "done":
                self.commit(run)
            case "failed":
                self.fail(run)
            case "failed in part":
                self.fail_in_part(run)
            case "alive":
                self.heartbeat(run)

    @precondition(lambda self: self.batch_ids)
    @rule(which=some, silent_for=st.sampled_from([0, RUN_MS]), outcome=outcomes_of_runs)
    def a_job_comes_twice(self, which: int, silent_for: int, outcome: str) -> None:
        self.clock.advance(silent_for)
        ids = [*self.model.in_flight, self.batch_ids[-1 - which % len(self.batch_ids)]]
        batch_id = ids[which % len(ids)]
        earlier = [run for run in self.runs if run.id == batch_id]
        self.claim(batch_id)
        for run in earlier[-1:]:
            self.end(run, outcome)

    def has_jobs(self) -> bool:
        return bool(self.client.exists("rq:queue:mb:letters"))

    def claim(self, batch_id: str) -> bool:
        now, owner = self.clock.ms, f"worker-{len(self.runs)}"
        run = self.broker.ledger.claim(batch_id, owner=owner, now_ms=now, due_ms=now + RUN_MS)
        batch = self.model.in_flight.get(batch_id)
        if batch is None or (batch.owner and batch.alive_until > now):
            assert run is None
            return False
        batch.owner, batch.alive_until = owner, now + RUN_MS
        assert run is not None
        assert (tuple(values_of(run.events)), run.run) == (batch.events, replace(batch.run, owner=owner))
        self.runs.append(run)
        return True

    def batch_of(self, run: ClaimedBatch) -> InFlight | None:
        """The batch of a run, if that run still owns it."""
        batch = self.model.in_flight.get(run.id)
        return batch if batch is not None and batch.owner == run.run.owner else None

    def heartbeat(self, run: ClaimedBatch) -> None:
        batch = self.batch_of(run)
        assert self.broker.claims.renew(claim_of(run), due_ms=self.clock.ms + RUN_MS) == (batch is not None)
        if batch is not None:
            batch.alive_until = self.clock.ms + RUN_MS

    def commit(self, run: ClaimedBatch) -> None:
        first = run.id in self.model.in_flight  # any one of several runs
        assert self.broker.ledger.commit(run.id, Ending(self.result_of(run))) == first
        if first:
            self.model.finish(run.id)

    def fail(self, run: ClaimedBatch, partial: PartialFailure | None = None) -> None:
        batch = self.batch_of(run)
        if partial is None:
            dead = self.failures.record(run, ValueError("no")).is_dead
        else:
            dead = self.failures.record_partial(run, partial, Ending(self.result_of(run))).is_dead
        health, policy = self.broker.breaker.health(), self.broker.policy
        verdict = judge(run.run, len(run.events), health, policy, self.clock.ms)
        assert dead == (verdict is Verdict.BURY and batch is not None)
        if batch is None:
            return
        self.carry_out(verdict, run, self.after(run, health))

    def carry_out(self, verdict: Verdict, run: ClaimedBatch, then: RunRecord) -> None:
        """Apply the verdict on a whole batch, which the run still owns."""
        match verdict:
            case Verdict.RETRY:
                batch = self.model.in_flight[run.id]
                batch.run, batch.owner = then, ""
            case Verdict.PROBE:
                self.batches_appear(self.probe(self.model.in_flight.pop(run.id).events, then))
            case Verdict.DIVIDE:
                self.batches_appear(self.halves(run.id, then))
            case Verdict.BURY:
                self.model.die(run.id)

    def after(self, run: ClaimedBatch, health: Health) -> RunRecord:
        """The run record after a failed run. The run is charged, unless all batches fail."""
        return after_failure(run.run, len(run.events), health, self.broker.policy, self.clock.ms).free()

    def fail_in_part(self, run: ClaimedBatch) -> None:
        if len(run.events) == 1:
            self.fail(run, partial=PartialFailure({0: "error"}))
            return
        batch = self.batch_of(run)
        failed = [i for i, event in enumerate(values_of(run.events)) if event % 4] or [0]
        partial = PartialFailure({i: f"error {i % 2}" for i in failed})
        dead = self.failures.record_partial(run, partial, Ending(self.result_of(run))).is_dead
        whole = len(failed) == len(run.events)
        health = self.broker.breaker.health() if whole else Health(done=run.run.done)
        then, late = self.after(run, health), is_out_of_time(run.run, self.broker.policy, self.clock.ms)
        verdict = judge(run.run, len(run.events), health, self.broker.policy, self.clock.ms)
        last = late or then.failures > self.max_retries
        # If nothing else succeeds, it may be an outage, and the events stay together instead of dying.
        together = (
            whole
            and not late
            and verdict is not Verdict.BURY
            and (health.is_open or (last and not others_succeed(run.run, health)))
        )
        assert dead == (last and not together and batch is not None)
        if batch is None:
            return
        if together:
            self.carry_out(verdict, run, then)
            return
        del self.model.in_flight[run.id]
        self.model.outcomes.append((run.id, "result"))
        self.model.done += [event for i, event in enumerate(batch.events) if i not in failed]
        groups = [[i for i in failed if i % 2 == k] for k in (0, 1)] if last else [failed]
        parts = [InFlight(tuple(batch.events[i] for i in group), then) for group in groups if group]
        for batch_id in self.batches_appear(parts):
            if last:
                self.model.die(batch_id)

    def result_of(self, run: ClaimedBatch) -> list[Value]:
        return Outcome(run.id, run.header, run.run.attempt, run.recorded_at_ms, result=b"1").encode()

    def halves(self, batch_id: str, then: RunRecord) -> list[InFlight]:
        batch, run = self.model.in_flight.pop(batch_id), replace(then, mode=Mode.ISOLATING)
        half = len(batch.events) // 2
        return [InFlight(events, run) for events in (batch.events[:half], batch.events[half:])]

    def probe(self, events: tuple[int, ...], then: RunRecord) -> list[InFlight]:
        """One event of a batch, and the rest."""
        at = then.runs % len(events)
        probe = InFlight((events[at],), replace(then, mode=Mode.PROBE))
        return [probe, InFlight(events[:at] + events[at + 1 :], then)]

    # --- consumers

    @rule(
        which=st.integers(0, 1),
        how=st.sampled_from(["read", "take over", "leave"]),
        count=st.integers(1, 3),
        entry=some,
    )
    def consume(self, which: int, how: str, count: int, entry: int) -> None:
        if how == "leave":
            self.consumers[which].leave_group()
            return
        if how == "take over":  # the other dies; its name comes back with its next read
            claimed = self.consumers[which].take_over(idle_ms=0, count=count)
            assert {entry.id for entry in claimed} <= self.delivered
            self.consumers[1 - which].leave_group()
        entries = self.consumers[which].read(count=count)
        for hint in [entry for entry in entries if entry.is_hint]:  # hints that a hand-back left
            self.consumers[which].acknowledge([hint.id])
            entries.remove(hint)
        assert not self.delivered & {entry.id for entry in entries}
        self.delivered |= {entry.id for entry in entries}
        self.entries += entries
        if self.entries and how == "read":
            self.handle(entry)

    def handle(self, which: int) -> None:
        entry = self.entries[-1 - which % len(self.entries)]
        there = {raw_id for raw_id, _ in self.client.xrange(self.broker.keys.results)}
        self.consumers[0].acknowledge([entry.id])
        if entry.id.encode() in there and not entry.is_hint:
            outcome = Outcome.decode(entry.fields)
            self.model.outcomes.remove((outcome.batch_id, "failure" if outcome.failure else "result"))

    # --- operators

    @precondition(lambda self: self.batch_ids)
    @rule(which=some, verb=st.sampled_from(["replay", "purge", "revive", "revive for an old job"]))
    def operate(self, which: int, verb: str) -> None:
        ids = [*self.model.dead, *self.batch_ids[-3:]]
        batch_id = ids[which % len(ids)]
        if verb == "replay":
            self.replay(batch_id)
        elif verb == "purge":
            self.purge(batch_id)
        else:
            self.revive(batch_id, died_before=self.clock.ms + 1 if verb == "revive" else 0)

    def replay(self, batch_id: str) -> None:
        count, waiting = self.broker.dead.replay(batch_id)
        events = self.model.dead.pop(batch_id, ())
        self.model.waiting += events
        assert (count, waiting) == (len(events), len(self.model.waiting))

    def purge(self, batch_id: str) -> None:
        events = self.model.dead.pop(batch_id, ())
        assert self.broker.dead.purge(batch_id) == len(events)
        self.model.purged += events

    def revive(self, batch_id: str, *, died_before: int) -> None:
        revived = self.broker.dead.requeue(batch_id, due_ms=self.clock.ms, died_before_ms=died_before)
        assert revived == (batch_id in self.model.dead and died_before > 0)
        if revived:
            self.model.in_flight[batch_id] = InFlight(self.model.dead.pop(batch_id))

    def teardown(self) -> None:
        """Whatever has happened, everything ends: nothing waits or is in flight for ever."""
        for finding in Audit(self.broker).findings():
            # The rules decided whether somebody looks at what is due.
            assert "are due and nobody looks at them" in finding.what, finding
        self.the_lease_runs_out()
        self.schedulers[0]._leadership.stand_by()
        for _ in range(20):
            if not self.model.waiting and not self.model.in_flight:
                assert list(Audit(self.broker).findings()) == []
                return
            self.clock.advance(2 * RUN_MS)
            self.cut(0, "flush")
            self.reconcile()
            while self.has_jobs():
                self.work("done", "silent")
            self.each_event_is_in_one_place()
            self.the_account_holds()
        raise AssertionError(f"it does not end: {self.model}")


TestMachine = pytest.mark.early(Microbatch.TestCase)
TestMachine.settings = settings(
    max_examples=50,
    stateful_step_count=50,
    derandomize=True,  # the same runs everywhere; no example is stored in a file
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
