"""The observer is told of each change: in order, with facts, and never with an event's content."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from microbatch.broker.app.config import Config
from microbatch.broker.broker import Broker
from microbatch.broker.observe.observer import BatchRun, Observer, Role
from microbatch.broker.observe.outlook import NextStep, Outlook
from microbatch.broker.policy.timing import Timing
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.batch import PartialFailure, Reject, RetryLater
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import Made, NewBatch
from microbatch.producer import MicroBatcher
from tests.doubles import HandlerFailed, ManualClock, Notes
from tests.unit.flow import Flow
from tests.unit.steps import RECORDED_AT_MS, FakeClient, claim

SECRET = "4111-1111"
START_MS = 1_000_000


class Failing:
    """An observer whose methods all raise."""

    sees_success = True

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, change: str) -> Callable[..., None]:
        def fail(**_facts: Any) -> None:
            self.calls.append(change)
            raise ZeroDivisionError(SECRET)

        return fail


def observed(client: FakeClient, clock: ManualClock, observer: Observer | None, **settings: Any) -> Broker:
    config = Config(**{"name": "letters", "lease_ttl": 600, **settings})
    return Broker(config, server=Server(client), clock=clock, observer=observer)


MakeFlow = Callable[..., Flow]


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def make_flow(
    client: FakeClient, clock: ManualClock, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> MakeFlow:
    """Flows that tell `notes` or the given observer. Random values are fixed at the middle of their range."""
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)

    def make(processor: object, *, observer: Any = notes, **settings: Any) -> Flow:
        return Flow(partial(observed, client, clock, observer), clock, processor, **settings)

    return make


def no(batch: list[Any]) -> None:
    if batch != ["good"]:
        raise ValueError(f"no: {batch}")


def run_all(flow: Flow) -> None:
    """Run until all but a good event are done or dead.

    Good events succeed in between, so this is not an outage.
    """
    while any(batch != ["good"] for batch in flow.in_flight()):
        flow.record("good")
        flow.step()
    flow.finish()


def consume(flow: Flow) -> None:
    """Handle everything that is there, as a consumer does."""
    batcher = MicroBatcher(flow.broker.config, broker=flow.broker)
    batcher.stop()
    assert batcher.wait_for_results(60)
    batcher.close()


def test_the_life_of_a_batch(make_flow: MakeFlow, notes: Notes, client: FakeClient) -> None:
    flow = make_flow(len, max_size=2)
    batcher = MicroBatcher(flow.broker.config, broker=flow.broker)
    batcher.record_event("a")
    batcher.record_event("b")
    flow.step(0)
    consume(flow)
    assert notes.changes == ["recorded", "recorded", "cut", "claimed", "committed", "handled"]
    assert notes.all("recorded") == [
        {"batcher": "letters", "count": 1, "waiting": 1},
        {"batcher": "letters", "count": 1, "waiting": 2},
    ]
    (batch,) = notes.one("cut")["batches"]
    assert batch.header == Header(Trigger.SIZE, 2, START_MS)
    claimed, committed, handled = (notes.one(change) for change in ("claimed", "committed", "handled"))
    run = BatchRun("letters", batch.id, batch.header, 1)
    recorded_at_ms = claimed["recorded_at_ms"]
    assert claimed == {"run": run, "at_ms": START_MS, "recorded_at_ms": recorded_at_ms}
    assert committed == {"run": run, "events": 2, "recorded_at_ms": recorded_at_ms}
    assert handled == {"run": run, "recorded_at_ms": recorded_at_ms, "is_dead": False}


def test_a_batch_that_fails_and_dies(make_flow: MakeFlow, notes: Notes) -> None:
    flow = make_flow(no, max_retries=1, retry_delay=2, isolate_failures=False)
    flow.record("a")
    flow.step(0)
    assert notes.changes == ["cut", "claimed", "failed"]
    (batch,) = notes.one("cut")["batches"]
    assert batch.header == Header(Trigger.FLUSH, 1, START_MS)
    failed = notes.one("failed")
    assert failed["run"] == BatchRun("letters", batch.id, batch.header, 1)
    assert (failed["by"], failed["at_ms"]) == (Role.WORKER, START_MS)
    assert failed["outlook"] == Outlook(NextStep.RETRY, 2.0)
    run_all(flow)
    consume(flow)
    dead, runs = notes.one("dead"), flow.runs.count(["a"])
    of_it = [each for each, facts in notes.told if getattr(facts.get("run"), "id", "") == batch.id]
    assert of_it == [*["claimed", "failed"] * (runs - 1), "claimed", "dead", "handled"]
    assert dead["run"] == BatchRun("letters", batch.id, batch.header, runs)
    assert dead["by"] is Role.WORKER
    for error in (failed["error"], dead["error"]):
        assert error.kind == "ValueError"
        assert error.summary.startswith("ValueError in no (test_observer.py:")
    (handled,) = [facts for facts in notes.all("handled") if facts["is_dead"]]
    assert handled == {"run": dead["run"], "recorded_at_ms": RECORDED_AT_MS, "is_dead": True}


def test_a_batch_that_is_divided(make_flow: MakeFlow, notes: Notes) -> None:
    def process(batch: list[str]) -> None:
        if "bad" in batch:
            no(batch)

    flow = make_flow(process, max_retries=0)
    flow.record("bad", "a", "b", "c")
    flow.step(0)
    run_all(flow)
    divided = [facts for facts in notes.all("failed") if facts["outlook"].parts]
    assert divided[0]["run"].header.size == 4
    steps = {facts["outlook"].next for facts in divided}
    assert steps <= {NextStep.PROBE, NextStep.HALVES}
    assert NextStep.HALVES in steps
    for facts in divided:
        parts = facts["outlook"].parts
        assert sum(part.header.size for part in parts) == facts["run"].header.size
        assert {part.header.parent for part in parts} == {facts["run"].id}
    # Each batch that was cut, or made by a division, ends once.
    begun = [batch.id for facts in notes.all("cut") for batch in facts["batches"]]
    begun += [part.id for facts in divided for part in facts["outlook"].parts]
    ended = [facts["run"].id for facts in (*notes.all("committed"), *notes.all("dead"), *divided)]
    assert sorted(begun) == sorted(ended)
    assert notes.one("dead")["run"].header.size == 1
    assert sum(facts["events"] for facts in notes.all("committed")) == flow.done()


def test_a_batch_that_fails_in_part(make_flow: MakeFlow, notes: Notes) -> None:
    """Two of its events are done, one is dead, and one runs again."""

    def process(batch: list[str]) -> None:
        if len(batch) > 1:
            raise PartialFailure({0: Reject(f"no {batch[0]}"), 2: RetryLater(1.5)})

    flow = make_flow(process)
    flow.record("a", "b", "c", "d")
    flow.step(0)
    assert notes.changes == ["cut", "claimed", "committed", "dead", "failed"]
    claimed, committed, dead, failed = (facts for _, facts in notes.told[1:])
    assert committed["run"] == failed["run"] == claimed["run"]
    assert committed["events"] == 2
    outlook = failed["outlook"]
    (part,) = outlook.parts
    assert outlook == Outlook(NextStep.NAMED, 1.5, [part], dead_events=1)
    assert dead["run"].id not in {part.id, claimed["run"].id}
    assert dead["error"].kind == "an error that the processor named"
    for header in (part.header, dead["run"].header):
        assert (header.size, header.parent) == (1, claimed["run"].id)
    flow.finish()
    assert notes.changes[5:] == ["claimed", "committed"]
    assert notes.told[-1][1]["run"].id == part.id


def test_a_worker_that_goes_silent(make_flow: MakeFlow, notes: Notes) -> None:
    flow = make_flow(len, max_worker_deaths=1, isolate_failures=False)
    flow.record("a")
    flow.schedule()
    flow.scheduler._reconciler._silence_counts_at = 0.0
    (batch_id,) = flow.broker.ledger.in_flight()
    for _ in range(2):
        claim(flow.broker, batch_id, owner="host:7:ab")
        flow.clock.advance(Timing.look_again_ms)
        flow.schedule()
    assert notes.changes == ["cut", "failed", "dead"]
    failed, dead = notes.one("failed"), notes.one("dead")
    assert [facts["run"].attempt for facts in (failed, dead)] == [1, 2]
    assert [facts["at_ms"] for facts in (failed, dead)] == [
        START_MS + n * Timing.look_again_ms for n in (1, 2)
    ]
    assert failed["outlook"] == Outlook(NextStep.RETRY)
    for facts in (failed, dead):
        assert facts["run"].id == batch_id
        assert facts["by"] is Role.SCHEDULER
        assert facts["error"].summary == "its worker host:7:ab died or went silent while running it"


def test_a_batch_is_divided_after_a_worker_has_gone_silent(make_flow: MakeFlow, notes: Notes) -> None:
    flow = make_flow(len, max_worker_deaths=0)
    flow.record("a", "b", "c")
    flow.schedule()
    flow.scheduler._reconciler._silence_counts_at = 0.0
    (batch_id,) = flow.broker.ledger.in_flight()
    claim(flow.broker, batch_id)
    flow.clock.advance(Timing.look_again_ms)
    flow.schedule()
    failed = notes.one("failed")
    assert (failed["outlook"].next, failed["by"]) == (NextStep.HALVES, Role.SCHEDULER)
    assert [part.header.size for part in failed["outlook"].parts] == [1, 2]


def test_each_call_that_records_is_told_once(make_flow: MakeFlow, notes: Notes) -> None:
    flow = make_flow(len, dedupe_window=60, max_size=2_000)
    batcher = MicroBatcher(flow.broker.config, broker=flow.broker)
    batcher.record_events(list(range(1_500)))
    batcher.record_events(iter(range(3)))
    batcher.record_event("a", id="one")
    batcher.record_event("a", id="one")  # seen before, so nothing is recorded
    with MicroBatcher(flow.broker.config, linger=60_000, broker=flow.broker) as lingering:
        for event in range(5):
            lingering.record_event(event)
        lingering.flush()
        told = [(facts["count"], facts["waiting"]) for facts in notes.all("recorded")]
    assert told == [(1_000, 1_000), (500, 1_500), (3, 1_503), (1, 1_504), (5, 1_509)]


def test_a_cut_is_told_the_sizes_that_its_batches_have() -> None:
    planned = [NewBatch(each, Header(Trigger.TICK, 10, 1)) for each in "abc"]
    made = Made([10, 7]).of(planned)
    assert [(batch.id, batch.header.size) for batch in made] == [("a", 10), ("b", 7)]


def test_an_entry_whose_handler_raised_is_not_told_as_handled(make_flow: MakeFlow, notes: Notes) -> None:
    def handle(result: int) -> None:
        if result == 1:
            raise HandlerFailed

    flow = make_flow(len, max_size=2, result_handler=handle)
    flow.record("a", "b", "c")
    flow.step(0)
    with pytest.raises(HandlerFailed):
        consume(flow)
    assert [facts["run"].header.size for facts in notes.all("handled")] == [2]


def test_an_event_is_never_told(make_flow: MakeFlow, notes: Notes) -> None:
    """Whatever fails, the error quotes the events."""
    runs = 0

    def process(batch: list[str]) -> object:
        nonlocal runs
        if batch == ["good"]:
            return batch
        runs += 1
        if runs == 1:
            raise ValueError(f"no: {batch}")
        if runs == 2:
            raise PartialFailure({0: ValueError(batch[0]), 1: Reject(f"no {batch[1]}")}, batch)
        raise Reject(f"no: {batch}")

    flow = make_flow(process, max_retries=3)
    flow.record(*[f"{SECRET} {n}" for n in range(4)])
    flow.step(0)
    run_all(flow)
    consume(flow)
    assert {"cut", "claimed", "failed", "committed", "dead", "handled"} == set(notes.changes)
    assert len(notes.all("dead")) == 2
    assert SECRET not in repr(notes.told)


def test_an_observer_that_fails_is_logged_once_and_the_work_goes_on(
    make_flow: MakeFlow, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Failing()
    flow = make_flow(len, observer=failing, max_size=2)
    batcher = MicroBatcher(flow.broker.config, broker=flow.broker)
    batcher.record_events(["a", "b"])
    flow.step(0)
    consume(flow)
    assert flow.done() == 2
    assert failing.calls == ["recorded", "cut", "claimed", "committed", "handled"]
    (line,) = [each for each in caplog.records if "observer" in each.getMessage()]
    assert line.levelno == logging.ERROR
    assert line.getMessage().startswith("letters: the observer has failed; the work goes on: ZeroDivision")
    assert SECRET not in caplog.text


def test_a_failing_observer_does_not_change_what_becomes_of_a_failure(make_flow: MakeFlow) -> None:
    failing = Failing()
    flow = make_flow(no, observer=failing, max_retries=1, isolate_failures=False)
    flow.record("a", "b")
    flow.step(0)
    run_all(flow)
    assert flow.dead() == [("ValueError: no: ['a', 'b']", ["a", "b"])]
    assert {"failed", "dead"} <= set(failing.calls)


def test_a_log_that_raises_does_not_stop_the_work(
    make_flow: MakeFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("microbatch.broker.observe.log_observer._CUTS.info", fail)
    monkeypatch.setattr("microbatch.broker.observe.guard.log.error", fail)
    flow = make_flow(len, observer=None)
    flow.record("a")
    flow.finish()
    assert flow.done() == 1


def test_changes_are_logged_by_default(make_flow: MakeFlow, caplog: pytest.LogCaptureFixture) -> None:
    """People search and filter for these lines, with their levels and the names of their loggers."""
    caplog.set_level(logging.INFO, "microbatch")
    flow = make_flow(no, observer=None, max_retries=1, retry_delay=2, isolate_failures=False, max_size=2)
    flow.record("a", "b", "good")
    flow.schedule()
    ids = {size: batch_id for batch_id in flow.broker.ledger.in_flight() if (size := size_of(flow, batch_id))}
    flow.work()
    run_all(flow)
    scheduler, worker = "microbatch.scheduler.scheduler", "microbatch.worker.failure_recorder"
    found = [
        (each.name, each.levelname, each.getMessage())
        for each in caplog.records
        if each.name in {scheduler, worker}
    ]
    error = f"ValueError in no (test_observer.py:{no.__code__.co_firstlineno + 2})"
    assert found[:2] == [
        (scheduler, "INFO", "letters: cut 3 events (batches: 2, trigger: size/flush)"),
        (worker, "WARNING", f"letters: batch {ids[2]}: attempt 1 failed, again in 2.0 s: {error}"),
    ]
    runs = flow.runs.count(["a", "b"])
    dead = (worker, "ERROR", f"letters: batch {ids[2]}: dead at attempt {runs}: {error}")
    assert found.count(dead) == 1
    assert {text for name, _, text in found if name == scheduler} == {
        "letters: cut 3 events (batches: 2, trigger: size/flush)",
        "letters: cut 1 events (batches: 1, trigger: flush)",
    }


def size_of(flow: Flow, batch_id: str) -> int:
    return int(flow.broker.server.do("LLEN", flow.broker.keys.batch(batch_id))) - 2


def test_the_log_of_a_worker_that_goes_silent(make_flow: MakeFlow, caplog: pytest.LogCaptureFixture) -> None:
    flow = make_flow(len, observer=None, max_worker_deaths=0, isolate_failures=False)
    flow.record("a")
    flow.schedule()
    flow.scheduler._reconciler._silence_counts_at = 0.0
    (batch_id,) = flow.broker.ledger.in_flight()
    claim(flow.broker, batch_id, owner="host:7:ab")
    flow.clock.advance(Timing.look_again_ms)
    flow.schedule()
    of_burial = [each for each in caplog.records if each.name == "microbatch.scheduler.burial"]
    death = "its worker host:7:ab died or went silent while running it"
    assert [(each.levelname, each.getMessage()) for each in of_burial] == [
        ("WARNING", f"letters: batch {batch_id}: its worker host:7:ab has gone silent"),
        ("ERROR", f"letters: batch {batch_id}: dead at attempt 1: {death}"),
    ]


@pytest.mark.parametrize(
    ("outlook", "text"),
    [
        (Outlook(NextStep.RETRY, 1.25), "again in 1.2 s"),
        (Outlook(NextStep.ASKED, 0.5), "again in 0.5 s, as its processor asked"),
        (Outlook(NextStep.HELD_BACK), "again when a batch succeeds, as all fail"),
        (Outlook(NextStep.PROBE), "one of its events is run alone"),
        (Outlook(NextStep.HALVES), "its halves are run alone"),
        (Outlook(NextStep.NAMED, 3), "0 of 4 events failed, again in 3.0 s"),
        (Outlook(NextStep.NONE), "but another worker has it"),
    ],
)
def test_an_outlook_in_words(outlook: Outlook, text: str) -> None:
    assert outlook.describe(4) == text
