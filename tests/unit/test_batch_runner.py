"""The runner: it calls a batch's processor, and records the outcome once."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from microbatch.broker.errors import ConfigError, DecodeError
from microbatch.broker.wire.batch import BatchInfo, moment
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.outcome import Outcome
from tests.doubles import ManualClock
from tests.unit.conftest import MakeRunner
from tests.unit.steps import CUT_AT_MS, RECORDED_AT_MS, check_account, claim, outcomes, record_and_cut


@dataclass
class Letter:
    text: str
    size: int = 1


def total(batch: list[int]) -> int:
    return sum(batch)


async def eventually(batch: list[int]) -> int:
    return sum(batch)


class Runner:
    def run(self, batch: list[int]) -> int:
        return sum(batch)


@pytest.mark.parametrize("processor", [total, eventually, Runner(), f"{__name__}:total", sum])
def test_a_result_is_committed_with_what_is_known_of_its_batch(
    make_runner: MakeRunner, processor: object
) -> None:
    runner = make_runner(processor)
    batch_id = record_and_cut(runner.broker, 1, 2, 4)
    assert runner.run(batch_id).text == "done"
    header = Header(Trigger.SIZE, 3, CUT_AT_MS)
    assert outcomes(runner.broker) == [Outcome(batch_id, header, 1, RECORDED_AT_MS, result=b"7")]
    assert runner.broker.ledger.in_flight() == []
    check_account(runner.broker)


def test_a_processor_without_a_result_leaves_nothing_to_handle(make_runner: MakeRunner) -> None:
    seen: list[list[int]] = []
    runner = make_runner(seen.append)
    assert runner.run(record_and_cut(runner.broker, 1, 2)).text == "done"
    assert seen == [[1, 2]]
    assert outcomes(runner.broker) == []
    assert runner.broker.stats.counters().done_batches == 1


@pytest.mark.parametrize("falsy", [0, "", [], False])
def test_only_none_is_no_result(make_runner: MakeRunner, falsy: object) -> None:
    runner = make_runner(lambda batch: falsy)  # noqa: ARG005
    runner.run(record_and_cut(runner.broker, 1))
    assert len(outcomes(runner.broker)) == 1


def test_a_second_parameter_is_given_the_batch(make_runner: MakeRunner) -> None:
    seen = []

    def processor(batch: list[Letter], info: BatchInfo) -> None:
        seen.append((batch, info))

    runner = make_runner(processor)
    batch_id = record_and_cut(runner.broker, {"text": "a"}, {"text": "b", "size": 2})
    runner.run(batch_id)
    info = BatchInfo(batch_id, "letters", Trigger.SIZE, 2, 1, moment(CUT_AT_MS), moment(RECORDED_AT_MS))
    assert seen == [([Letter("a"), Letter("b", 2)], info)]


def test_there_is_nothing_to_do_for_a_batch_that_is_gone_or_at_work(make_runner: MakeRunner) -> None:
    calls: list[object] = []
    runner = make_runner(calls.append)
    at_work = record_and_cut(runner.broker, 1)
    claim(runner.broker, at_work, owner="other")
    for batch_id in (at_work, "0" * 32):
        assert runner.run(batch_id).text.startswith("nothing to do")
    assert calls == []
    check_account(runner.broker)


def test_two_runs_of_a_batch_commit_once(make_runner: MakeRunner, clock: ManualClock) -> None:
    """The first run sends no heartbeat for too long, and ends after the second has finished."""
    results = iter(["zombie", "second"])
    reports = []

    def processor(batch: list[int]) -> str:
        result = next(results)
        if result == "zombie":
            clock.advance(60_000)
            reports.append(runner.run(batch_id).text)
        return f"{result}: {sum(batch)}"

    runner = make_runner(processor)
    batch_id = record_and_cut(runner.broker, 1, 2)
    reports.append(runner.run(batch_id).text)
    assert reports == ["done", "nothing changed: another worker was first"]
    assert [(outcome.attempt, outcome.result) for outcome in outcomes(runner.broker)] == [(1, b'"second: 3"')]
    check_account(runner.broker)


@pytest.mark.parametrize("processor", [None, lambda: None])
def test_without_a_processor_that_can_be_called_there_is_no_runner(
    make_runner: MakeRunner, processor: object
) -> None:
    with pytest.raises(ConfigError, match="batch_processor"):
        make_runner(processor)


@pytest.mark.parametrize("batch_id", ["", "events", "../x", "0" * 31, "A" * 32, "0" * 32 + "-x"])
def test_an_invalid_id_never_becomes_a_key(batch_id: str, make_runner: MakeRunner) -> None:
    with pytest.raises(DecodeError, match="is not a batch's id"):
        make_runner(total).run(batch_id)


def test_an_event_that_is_too_large_is_dead_alone(make_runner: MakeRunner) -> None:
    runner = make_runner(total, max_event_bytes=3)
    report = runner.run(record_and_cut(runner.broker, 100, 1000))
    assert report.is_dead
    assert re.search("1 of 2 events dead at attempt 1", report.text)
    (dead,) = runner.broker.dead
    assert dead.failure.error == "DecodeError: the event has 4 bytes; the most is 3"
    (other,) = runner.broker.ledger.in_flight()
    assert runner.run(other).text == "done"


def echo(batch: list[str]) -> list[str]:
    return batch


def test_a_result_that_is_too_large_fails_its_batch_and_is_not_sent(make_runner: MakeRunner) -> None:
    runner = make_runner(echo, max_result_bytes=10, max_retries=0)
    assert runner.run(record_and_cut(runner.broker, "a" * 6)).text == "done"
    message = r"EncodeError: the result has 11 bytes; the most is 10 \(max_result_bytes\)"
    report = runner.run(record_and_cut(runner.broker, "a" * 7))
    assert report.is_dead
    assert re.search(message, report.text)
    assert [outcome.result for outcome in outcomes(runner.broker)] == [b'["aaaaaa"]', None]
    check_account(runner.broker)


def test_the_parts_of_a_batch_whose_result_is_too_large_are_done(make_runner: MakeRunner) -> None:
    runner = make_runner(echo, max_result_bytes=10, max_retries=0, isolate_failures=True)
    record_and_cut(runner.broker, "abc", "def")
    for _ in range(5):
        for batch_id in runner.broker.ledger.in_flight():
            runner.run(batch_id)
    assert runner.broker.ledger.in_flight() == []
    assert sorted(outcome.result or b"" for outcome in outcomes(runner.broker)) == [b'["abc"]', b'["def"]']


def test_an_error_of_any_length_is_stored_within_bounds(make_runner: MakeRunner) -> None:
    def processor(batch: list[str]) -> None:
        raise ValueError("begin " + 3_000_000 * "x" + " end")

    runner = make_runner(processor, max_retries=0)
    assert runner.run(record_and_cut(runner.broker, "a")).is_dead
    (dead,) = runner.broker.dead
    for text in (dead.failure.error, dead.failure.traceback):
        assert len(text) < 1_000_100
        assert "ValueError: begin xxx" in text
        assert "characters left out" in text
        assert text.rstrip().endswith("xxx end")
