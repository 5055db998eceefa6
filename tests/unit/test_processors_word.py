"""What a processor may say about a failure: try later, reject, or do not retry."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from microbatch.broker.process import failure_log
from microbatch.broker.process.failure_log import FailureLog
from microbatch.broker.wire.run_record import Mode, RunRecord
from microbatch.worker import PartialFailure, Reject, RetryLater
from tests.doubles import ManualClock, set_time
from tests.unit.conftest import MakeBroker, MakeRunner
from tests.unit.flow import Flow
from tests.unit.steps import due, outcomes, record_and_cut

MakeFlow = Callable[..., Flow]


@pytest.fixture
def make_flow(make_broker: MakeBroker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> MakeFlow:
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    return lambda processor, **settings: Flow(make_broker, clock, processor, **settings)


# RetryLater


def test_a_batch_that_is_put_off_is_due_then_and_charged_nothing(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    def processor(batch: list[int]) -> None:
        raise RetryLater(45)

    runner = make_runner(processor, max_retries=0)
    batch_id = record_and_cut(runner.broker, 1, 2)
    started_ms = clock.ms
    for runs in (1, 2, 3):
        said = runner.run(batch_id).text
        assert (
            said
            == f"attempt {runs} failed, again in 45.0 s, as its processor asked: RetryLater: again in 45 s"
        )
        assert due(runner.broker, clock.ms + 44_999) == []
        clock.advance(45_000)
        (batch,) = due(runner.broker, clock.ms)
        assert batch.run == RunRecord(runs=runs, since_ms=started_ms, mode=Mode.LATER)
    assert not runner.broker.breaker.health().batches  # this is not a failure


def test_a_batch_is_put_off_until_retry_for_and_then_fails(make_flow: MakeFlow) -> None:
    def processor(batch: list[int]) -> None:
        raise RetryLater(20)

    flow = make_flow(processor, retry_for="1m", isolate_failures=False)
    flow.record(1, 2)
    flow.finish(90)
    assert flow.dead() == [("RetryLater: again in 20 s", [1, 2])]
    assert len(flow.runs) == 4


def test_single_events_are_put_off(make_flow: MakeFlow) -> None:
    def processor(batch: list[int]) -> int:
        if len(batch) == 4:
            raise PartialFailure({0: RetryLater(10), 2: RetryLater(20), 3: ValueError("no")}, result=1)
        return 1

    flow = make_flow(processor, max_retries=1)
    flow.record(1, 2, 3, 4)
    flow.step()
    records = {record.mode: record.failures for record in flow.records()}
    assert records == {Mode.LATER: 0, Mode.WHOLE: 1}
    times = []
    while flow.broker.ledger.in_flight():
        flow.clock.advance(100)
        flow.schedule()
        if flow.work():
            times.append(flow.clock.ms)
    assert flow.runs == [[1, 2, 3, 4], [4], [1], [3]]
    assert [later - times[0] for later in times] == [0, 9_000, 19_000]
    assert flow.dead() == []


@pytest.mark.parametrize("seconds", [-1, -0.001, 3_601, float("nan"), float("inf"), True])
def test_an_invalid_wait_is_refused_where_it_is_written(seconds: float) -> None:
    with pytest.raises(ValueError, match="RetryLater takes 0 to 3,600 seconds, not"):
        RetryLater(seconds)


# Reject


@pytest.mark.parametrize(
    ("given", "told"),
    [(ValueError("no such account"), "ValueError: no such account"), ("too old", "too old")],
)
def test_a_rejected_batch_is_dead_at_once_and_whole(
    make_runner: MakeRunner, given: Exception | str, told: str
) -> None:
    def processor(batch: list[int]) -> None:
        raise Reject(given)

    runner = make_runner(processor, max_retries=3, isolate_failures=True)
    report = runner.run(record_and_cut(runner.broker, 1, 2))
    assert report.is_dead
    assert re.search(f"^dead at attempt 1: {told}$", report.text)
    (batch,) = runner.broker.dead
    assert (batch.failure.error, len(runner.broker.dead.events(batch.id))) == (told, 2)
    assert len(outcomes(runner.broker)) == 1
    assert not runner.broker.breaker.health().batches  # it says nothing about other batches


def test_rejected_events_alone_are_dead(make_flow: MakeFlow) -> None:
    def processor(batch: list[int]) -> int:
        errors = {i: Reject(f"{event} is odd") for i, event in enumerate(batch) if event % 2}
        if errors:
            raise PartialFailure(errors, result=0)
        return 1

    flow = make_flow(processor, max_retries=3)
    flow.record(1, 2, 3, 4)
    flow.step()
    assert len(flow.runs) == 1
    assert flow.dead() == [("1 is odd", [1]), ("3 is odd", [3])]
    assert flow.done() == 2


# give_up_on, retry_on


@pytest.mark.parametrize(
    "settings", [{"give_up_on": LookupError}, {"retry_on": (OSError,)}, {"give_up_on": "KeyError"}]
)
def test_what_is_of_no_use_to_repeat_is_isolated_at_once(make_flow: MakeFlow, settings: Any) -> None:
    def processor(batch: list[int]) -> int:
        if 3 in batch:
            raise KeyError("no such account")
        return 1

    flow = make_flow(processor, max_retries=3, **settings)
    flow.record(*range(8))
    flow.step(0)
    assert flow.in_flight() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    flow.finish(10)
    assert flow.dead() == [("KeyError: 'no such account'", [3])]
    assert flow.done() == 7
    assert [batch for batch in flow.runs if 3 in batch] == [[*range(8)], [*range(4)], [2, 3], [3]]


def test_what_is_worth_repeating_is_repeated(make_flow: MakeFlow) -> None:
    def processor(batch: list[int]) -> None:
        raise TimeoutError

    flow = make_flow(processor, max_retries=2, retry_on=OSError, give_up_on=ValueError)
    flow.record(1)
    flow.finish(60)
    assert (len(flow.runs), flow.dead()) == (3, [("TimeoutError", [1])])


# the log of failures


class Stopwatch:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        set_time(monkeypatch, failure_log, monotonic=lambda: self.now)


def test_a_kind_of_failure_is_logged_once_a_minute_with_a_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch, log = Stopwatch(monkeypatch), FailureLog(logging.getLogger("test"))
    for number in range(1_235):
        log.note(logging.WARNING, "ValueError", f"line {number}")
    log.note(logging.WARNING, "KeyError", "another kind")
    log.note(logging.ERROR, "ValueError", "another level")
    assert caplog.messages == ["line 0", "another kind", "another level"]
    caplog.clear()
    watch.now += 60 - 0.1
    log.note(logging.WARNING, "ValueError", "too early")
    watch.now += 0.1
    log.note(logging.WARNING, "ValueError", "a minute later")
    log.note(logging.WARNING, "KeyError", "none was left out")
    log.note(logging.WARNING, "ValueError", "again too early")
    assert caplog.messages == [
        "a minute later (and 1,235 more like it since the last such line)",
        "none was left out",
    ]
