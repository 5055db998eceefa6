"""Batches that fail: they are tried again, then dead, with the details that their author needs."""

from __future__ import annotations

import logging
import re
import traceback
from dataclasses import dataclass
from typing import Any

import pytest

from microbatch.broker.errors import InDoubt, Refused, RefusedForNow, Unavailable
from microbatch.broker.transport import backoff as module
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.broker.wire.batch import BatchInfo
from microbatch.broker.wire.event import encode_event
from microbatch.broker.wire.run_record import RunRecord
from microbatch.worker.runner import BatchRunner
from tests.doubles import ManualClock, set_time
from tests.unit.conftest import MakeRunner
from tests.unit.steps import RECORDED_AT_MS, check_account, claim, client_of, due, outcomes, record_and_cut


@dataclass
class Letter:
    text: str
    size: int = 1


def total(batch: list[int]) -> int:
    return sum(batch)


def test_a_failed_batch_is_retried_ever_later_and_then_dead(
    make_runner: MakeRunner, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    def processor(batch: list[int], info: BatchInfo) -> None:
        raise ValueError(f"attempt {info.attempt}\nwith more to say")

    runner = make_runner(processor, max_retries=2, retry_delay=1.5)
    broker = runner.broker
    batch_id, started_ms = record_and_cut(broker, 1, 2), clock.ms
    for attempt, delay_ms in ((1, 1_500), (2, 3_000)):
        outlook = f"attempt {attempt} failed, again in {delay_ms / 1000:.1f} s"
        assert runner.run(batch_id).text == f"{outlook}: ValueError: attempt {attempt}"
        line = f"letters: batch {batch_id}: {outlook}: ValueError in processor (test_batch"
        assert (line in caplog.text) == (attempt == 1)  # one line a minute
        assert due(broker, clock.ms + delay_ms - 1) == []
        clock.advance(delay_ms)
        (waiting,) = due(broker, clock.ms)
        assert waiting.run == RunRecord(attempt, failures=attempt, since_ms=started_ms)
        assert outcomes(broker) == []
        check_account(broker)
    report = runner.run(batch_id)
    assert report.is_dead
    assert re.search(r"^dead at attempt 3: ValueError: attempt 3$", report.text)
    assert isinstance(report.error, ValueError)
    assert f"letters: batch {batch_id}: dead at attempt 3: ValueError in processor" in caplog.text
    told = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert not any("attempt 1\n" in line or "ValueError: attempt" in line for line in told)
    (outcome,) = outcomes(broker)
    assert (outcome.batch_id, outcome.attempt, outcome.recorded_at_ms) == (batch_id, 3, RECORDED_AT_MS)
    assert outcome.failure is not None
    assert (outcome.failure.error, outcome.failure.attempts) == ("ValueError: attempt 3", 3)
    assert len(broker.dead.events(batch_id)) == 2
    check_account(broker)
    assert runner.run(batch_id).text.startswith("nothing to do")


class Bare(BaseException):
    """An exception that `except Exception` does not catch."""


class Unspeakable(Exception):
    """An exception that can't be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (Bare("x"), "Bare: x"),
        (Unspeakable(), "Unspeakable"),
    ],
)
def test_whatever_a_processor_raises_fails_its_batch(
    error: BaseException, summary: str, make_runner: MakeRunner
) -> None:
    def processor(batch: list[int]) -> None:
        raise error

    runner = make_runner(processor, max_retries=1)
    batch_id = record_and_cut(runner.broker, 1)
    assert runner.run(batch_id).text == f"attempt 1 failed, again in 1.0 s: {summary}"
    assert runner.broker.ledger.in_flight() == [batch_id]
    check_account(runner.broker)


def failure_of(runner: BatchRunner, *values: object) -> tuple[str, str]:
    """The error and the traceback of a batch that is given up at once."""
    assert runner.run(record_and_cut(runner.broker, *values)).is_dead
    check_account(runner.broker)
    (outcome,) = outcomes(runner.broker)
    assert outcome.failure is not None
    return outcome.failure.error, outcome.failure.traceback


def fails(batch: list[int]) -> None:
    raise KeyError("c")


def test_a_traceback_begins_at_the_processor(make_runner: MakeRunner) -> None:
    error, text = failure_of(make_runner(fails, max_retries=0), 1)
    assert error == "KeyError: 'c'"
    first, frame, line, *rest = text.splitlines()
    assert first == "Traceback (most recent call last):"
    assert frame.endswith("in fails")
    assert line.strip() == 'raise KeyError("c")'
    assert rest == ["KeyError: 'c'"]


def test_a_traceback_keeps_what_led_to_the_error(make_runner: MakeRunner) -> None:
    def chained(batch: list[int]) -> None:
        try:
            fails(batch)
        except KeyError as error:
            raise RuntimeError("could not") from error

    _, text = failure_of(make_runner(chained, max_retries=0), 1)
    assert "KeyError: 'c'" in text
    assert "direct cause" in text
    assert "in chained" in text
    assert "microbatch/worker" not in text


def test_an_error_without_a_message_is_told_by_its_type(make_runner: MakeRunner) -> None:
    def processor(batch: list[int]) -> None:
        raise NotImplementedError

    assert failure_of(make_runner(processor, max_retries=0), 1)[0] == "NotImplementedError"


def test_the_traceback_that_is_kept_is_pythons_own(make_runner: MakeRunner) -> None:
    seen: list[str] = []

    def processor(batch: list[int]) -> None:
        try:
            fails(batch)
        except KeyError:
            seen.append(traceback.format_exc())
            raise

    _, text = failure_of(make_runner(processor, max_retries=0), 1)
    assert text.splitlines()[-3:] == seen[0].splitlines()[-3:]


def test_an_event_that_no_longer_fits_fails_its_batch(make_runner: MakeRunner) -> None:
    def processor(batch: list[Letter]) -> None:
        raise AssertionError("not called")

    runner = make_runner(processor, max_retries=0)
    error, text = failure_of(runner, {"text": "a"}, {"text": "b", "size": "big"})
    assert error.startswith("DecodeError: the event at position 1 does not fit: size: Input should be")
    assert text.rstrip().endswith(error)


@pytest.mark.parametrize("raw", [b"pushed by hand", b"3" + b"0" * 11 + b'{"a":1}'])
@pytest.mark.parametrize("position", [0, 1])
def test_what_is_no_event_is_dead_at_once_and_alone(
    make_runner: MakeRunner, raw: bytes, position: int
) -> None:
    runner = make_runner(total)
    batch_id = record_and_cut(runner.broker, 1, 2)
    client_of(runner.broker).lset(runner.broker.keys.batch(batch_id), 2 + position, raw)
    report = runner.run(batch_id)
    assert report.is_dead
    assert re.search("1 of 2 events dead at attempt 1", report.text)
    (dead,) = runner.broker.dead
    assert dead.failure.error == "DecodeError: the event can't be read: not an event of version 1 or 2"
    (other,) = runner.broker.ledger.in_flight()
    assert runner.run(other).text == "done"
    failure, result = outcomes(runner.broker)
    assert (failure.result, result.result) == (None, str(2 - position).encode())
    check_account(runner.broker)


def test_all_that_is_no_event_is_dead_in_one_batch_and_no_outage(make_runner: MakeRunner) -> None:
    runner = make_runner(total)
    for _ in range(10):
        batch_id = record_and_cut(runner.broker, *range(20))
        key = runner.broker.keys.batch(batch_id)
        for position in range(20):
            client_of(runner.broker).lset(key, 2 + position, encode_event(b"{", 1))
        report = runner.run(batch_id)
        assert report.is_dead
        assert re.search("20 of 20 events dead at attempt 1", report.text)
    dead = [batch.failure.error[:34] for batch in runner.broker.dead]
    assert dead == ["DecodeError: the event is not JSON"] * 10
    assert runner.broker.held_back() == ""
    check_account(runner.broker)


def test_a_result_without_json_fails_its_batch(make_runner: MakeRunner) -> None:
    error, _ = failure_of(make_runner(lambda batch: object(), max_retries=0), 1)  # noqa: ARG005
    assert error.startswith("EncodeError: the result cannot be encoded as JSON: object: ")


def test_a_zombie_whose_last_attempt_fails_buries_nothing(
    make_runner: MakeRunner, clock: ManualClock
) -> None:
    def processor(batch: list[int]) -> None:
        clock.advance(60_000)
        claim(runner.broker, batch_id, owner="second")
        raise ValueError("too late")

    runner = make_runner(processor, max_retries=0)
    batch_id = record_and_cut(runner.broker, 1)
    runner.run(batch_id)
    assert runner.broker.ledger.in_flight() == [batch_id]
    assert outcomes(runner.broker) == []


class Away:
    """A change that fails at first, because the server can't be asked."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)

    def __call__(self) -> bool:
        if self._errors:
            raise self._errors.pop(0)
        return True


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The runner's pauses. They take no time."""
    found: list[float] = []
    set_time(monkeypatch, module, monotonic=lambda: sum(found), sleep=found.append)
    return found


def test_an_outcome_is_insisted_on_while_the_server_is_away(
    make_runner: MakeRunner, pauses: list[float]
) -> None:
    assert retry_until_answered(
        "letters", Away(*[Unavailable("away"), RefusedForNow("full")] * 3, *[InDoubt("lost")] * 2)
    )
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_an_outcome_is_not_insisted_on_for_ever_nor_against_a_refusal(
    make_runner: MakeRunner, pauses: list[float]
) -> None:
    with pytest.raises(Unavailable):
        retry_until_answered("letters", Away(*[Unavailable("away")] * 1_000))
    assert 80 < sum(pauses) <= 90
    pauses.clear()
    with pytest.raises(Refused):
        retry_until_answered("letters", Away(Refused("not allowed")))
    assert pauses == []


def test_a_run_has_no_time_limit_any_more_while_its_outcome_is_insisted_on(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    overdue: list[bool] = []

    def note_whether_overdue(*_arguments: Any, **_options: Any) -> bool:
        overdue.append(runner.run_watch.is_overdue)
        return True

    runner = make_runner(note_whether_overdue)
    runner.run_watch._limit_seconds = -1
    monkeypatch.setattr(runner.broker.ledger, "commit", note_whether_overdue)
    runner.run(record_and_cut(runner.broker, 1, 2))
    assert overdue == [True, False]


def test_a_commit_whose_reply_was_lost_is_done_once(
    make_runner: MakeRunner, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner(total)
    commit = runner.broker.ledger.commit
    errors = [InDoubt("lost")]

    def lose_a_reply(*arguments: Any, **options: Any) -> bool:
        done = commit(*arguments, **options)
        if errors:
            raise errors.pop()
        return done

    monkeypatch.setattr(runner.broker.ledger, "commit", lose_a_reply)
    runner.run(record_and_cut(runner.broker, 1, 2))
    assert len(outcomes(runner.broker)) == 1
    check_account(runner.broker)
