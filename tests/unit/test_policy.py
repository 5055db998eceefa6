"""What happens to a batch whose run has failed, and when it runs again."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from microbatch.broker.app.config import Config
from microbatch.broker.policy.health import Health
from microbatch.broker.policy.policy import Policy
from microbatch.broker.policy.retry import longest_retry_delay, retry_delay, suspect_delay
from microbatch.broker.policy.verdict import Verdict, is_given_up, is_out_of_time, judge, judge_death
from microbatch.broker.wire.run_record import Mode, RunRecord

RETRY, PROBE, DIVIDE, BURY = Verdict.RETRY, Verdict.PROBE, Verdict.DIVIDE, Verdict.BURY
NOW_MS = 10_000_000
HOUR_MS = 3_600_000


def make(**settings: Any) -> Policy:
    return Policy.of(Config(**{"name": "letters", "max_retries": 2, **settings}))


# judge

FRESH = RunRecord(owner="me")
ONCE = RunRecord(runs=1, failures=1, since_ms=NOW_MS - 1_000, done=10)
SPENT = RunRecord(runs=2, failures=2, since_ms=NOW_MS - 1_000, done=10)
UNCHARGED = RunRecord(runs=50, failures=0, since_ms=NOW_MS - 1_000, done=10)
ALONE = Health(done=10, batches=1, since_ms=NOW_MS - 1_000)
BESIDE = Health(done=10, batches=2, since_ms=NOW_MS - 1_000)
OTHERS_SUCCEED = Health(done=11, batches=1, since_ms=NOW_MS)
OPEN = Health(done=10, batches=5, since_ms=NOW_MS - 1_000, opened_ms=NOW_MS - 500)
OPEN_BY_IT = Health(done=11, batches=5, since_ms=NOW_MS, opened_ms=NOW_MS)


def late(run: RunRecord, mode: Mode = Mode.WHOLE) -> RunRecord:
    return RunRecord(run.runs or 1, run.failures, 0, NOW_MS - HOUR_MS, run.done, mode)


def mode(run: RunRecord, mode: Mode) -> RunRecord:
    return RunRecord(run.runs, run.failures, 0, run.since_ms, run.done, mode)


@pytest.mark.parametrize(
    ("run", "size", "health", "verdict"),
    [
        # It has retries left.
        (FRESH, 1, ALONE, RETRY),
        (FRESH, 9, ALONE, RETRY),
        (FRESH, 9, OTHERS_SUCCEED, RETRY),
        (ONCE, 9, BESIDE, RETRY),
        (UNCHARGED, 9, OTHERS_SUCCEED, RETRY),
        # It has none left, and others succeed: it is isolated.
        (SPENT, 9, OTHERS_SUCCEED, DIVIDE),
        (SPENT, 2, OTHERS_SUCCEED, DIVIDE),
        (SPENT, 1, OTHERS_SUCCEED, BURY),
        # Nothing succeeds. One event of several distinguishes a bad event from an outage.
        (SPENT, 9, ALONE, PROBE),
        (SPENT, 2, BESIDE, PROBE),
        (SPENT, 1, ALONE, BURY),
        (SPENT, 1, BESIDE, RETRY),
        (mode(SPENT, Mode.PROBE), 1, ALONE, BURY),
        (mode(SPENT, Mode.LATER), 9, ALONE, PROBE),
        # A batch that was already found to be at fault is divided further, whatever else happens.
        (mode(SPENT, Mode.ISOLATING), 9, ALONE, DIVIDE),
        # A single event dies if something has succeeded since it failed on its own, or nothing else ran for
        # long.
        (mode(SPENT, Mode.ISOLATING), 1, BESIDE, RETRY),
        (mode(SPENT, Mode.ISOLATING), 1, OTHERS_SUCCEED, RETRY),
        (mode(SPENT, Mode.SUSPECT), 1, BESIDE, RETRY),
        (mode(SPENT, Mode.SUSPECT), 1, OTHERS_SUCCEED, BURY),
        (replace(mode(SPENT, Mode.SUSPECT), failures=SPENT.failures + 3), 1, BESIDE, RETRY),
        (replace(mode(SPENT, Mode.SUSPECT), failures=SPENT.failures + 4), 1, BESIDE, BURY),
        (mode(SPENT, Mode.SUSPECT), 1, OPEN, RETRY),
        (mode(ONCE, Mode.ISOLATING), 9, ALONE, RETRY),
        # The breaker is open: nothing is divided, and nothing dies.
        (FRESH, 9, OPEN, RETRY),
        (SPENT, 9, OPEN, RETRY),
        (SPENT, 1, OPEN, RETRY),
        (SPENT, 9, OPEN_BY_IT, RETRY),
        (mode(SPENT, Mode.ISOLATING), 9, OPEN, RETRY),
        (mode(SPENT, Mode.PROBE), 1, OPEN, RETRY),
        # It is out of time: it is isolated, or, while the breaker is open, dead as a whole.
        (late(ONCE), 9, ALONE, DIVIDE),
        (late(UNCHARGED), 9, BESIDE, DIVIDE),
        (late(UNCHARGED), 1, BESIDE, BURY),
        (late(UNCHARGED), 9, OPEN, BURY),
        (late(SPENT, Mode.ISOLATING), 9, OPEN, BURY),
    ],
)
def test_what_becomes_of_a_failed_batch(run: RunRecord, size: int, health: Health, verdict: Verdict) -> None:
    assert judge(run, size, health, make(), NOW_MS) is verdict


@pytest.mark.parametrize(
    ("run", "size", "health", "verdict"),
    [
        (SPENT, 9, OTHERS_SUCCEED, BURY),
        (SPENT, 9, ALONE, BURY),
        (SPENT, 9, BESIDE, RETRY),
        (SPENT, 9, OPEN, RETRY),
        (late(ONCE), 9, BESIDE, BURY),
        (late(ONCE), 9, OPEN, BURY),
    ],
)
def test_what_is_not_isolated_is_never_divided(
    run: RunRecord, size: int, health: Health, verdict: Verdict
) -> None:
    assert judge(run, size, health, make(isolate_failures=False), NOW_MS) is verdict


def test_the_first_failure_of_a_batch_is_no_sign_that_others_succeed() -> None:
    """Events that were done before its first run say nothing about the present."""
    config = make(max_retries=0)
    assert judge(FRESH, 9, OTHERS_SUCCEED, config, NOW_MS) is PROBE
    assert judge(FRESH, 1, OTHERS_SUCCEED, config, NOW_MS) is BURY


def test_a_batch_is_out_of_time_when_it_has_failed_for_retry_for() -> None:
    config = make(retry_for="1h")
    assert not is_out_of_time(FRESH, config, NOW_MS)
    assert not is_out_of_time(RunRecord(1, since_ms=NOW_MS - HOUR_MS + 1), config, NOW_MS)
    assert is_out_of_time(RunRecord(1, since_ms=NOW_MS - HOUR_MS), config, NOW_MS)


def test_without_time_for_retries_there_is_still_one() -> None:
    """The time counts from the first failure."""
    config = make(retry_for=0)
    assert judge(FRESH, 9, ALONE, config, NOW_MS) is RETRY
    assert judge(RunRecord(1, 1, since_ms=NOW_MS), 9, ALONE, config, NOW_MS) is DIVIDE


@pytest.mark.parametrize(
    ("deaths", "size", "isolate", "verdict"),
    [
        (0, 9, True, RETRY),
        (1, 9, True, RETRY),
        (2, 9, True, DIVIDE),
        (2, 9, False, BURY),
        (2, 1, True, BURY),
        (99, 1, True, BURY),
    ],
)
def test_what_becomes_of_a_batch_whose_worker_died(
    deaths: int, size: int, isolate: bool, verdict: Verdict
) -> None:
    config = make(max_worker_deaths=2, isolate_failures=isolate)
    assert judge_death(RunRecord(deaths + 5, 5, deaths, 1), size, config) is verdict


@pytest.mark.parametrize(
    ("settings", "given_up"),
    [
        ({}, []),
        ({"give_up_on": ValueError}, [ValueError(), UnicodeError()]),
        ({"retry_on": OSError}, [ValueError(), UnicodeError(), KeyError()]),
        ({"retry_on": (OSError, ValueError), "give_up_on": UnicodeError}, [UnicodeError(), KeyError()]),
    ],
)
def test_what_is_given_up_at_once(settings: dict[str, object], given_up: list[Exception]) -> None:
    errors = [ValueError(), UnicodeError(), KeyError(), TimeoutError()]
    found = [type(error) for error in errors if is_given_up(error, make(**settings))]
    assert found == [type(error) for error in given_up]


# the delay


@pytest.fixture
def dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random values are fixed at the middle of their range."""
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)


@pytest.mark.usefixtures("dice")
@pytest.mark.parametrize(
    ("run", "seconds"), [(1, 1.5), (2, 3), (3, 6), (4, 12), (5, 24), (6, 30), (5_000, 30)]
)
def test_the_delay_doubles_with_each_run_up_to_the_longest(run: int, seconds: float) -> None:
    assert retry_delay(run, make(retry_delay=1.5)) == seconds


@pytest.mark.usefixtures("dice")
def test_the_longest_delay_is_a_setting() -> None:
    assert retry_delay(12, make(max_retry_delay="10m")) == 600
    assert retry_delay(1, make(retry_delay=90)) == 90  # more than the longest delay, but asked for
    assert retry_delay(9, make(retry_delay=90)) == 90


@pytest.mark.usefixtures("dice")
@pytest.mark.parametrize("run", [1, 7, 5_000])
def test_a_delay_of_zero_stays_zero(run: int) -> None:
    assert retry_delay(run, make(retry_delay=0)) == 0


def test_it_is_spread_by_a_quarter_to_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make(retry_delay=10.0)
    monkeypatch.setattr(random, "uniform", min)
    assert retry_delay(2, config) == 15
    monkeypatch.setattr(random, "uniform", max)
    assert retry_delay(2, config) == 25
    monkeypatch.undo()
    assert len({retry_delay(2, config) for _ in range(20)}) > 10


@pytest.mark.parametrize("first_seconds", [0.0, 1e-9, 1.0, 10.0, 100.0])
def test_no_retry_waits_longer_than_the_longest_delay(
    monkeypatch: pytest.MonkeyPatch, first_seconds: float
) -> None:
    monkeypatch.setattr(random, "uniform", max)
    config = make(retry_delay=first_seconds)
    delays = [delay(run, config) for run in (*range(1, 100), 5_000) for delay in (retry_delay, suspect_delay)]
    assert max(delays) == longest_retry_delay(config)
