"""When a failed batch is tried again."""

from __future__ import annotations

import random

import pytest

from microbatch.broker.config import Config
from microbatch.broker.policy import longest_retry_delays, retry_delay


@pytest.fixture(autouse=True)
def dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dice that fall in the middle."""
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1.5), (2, 3), (3, 6), (4, 12), (11, 1_536)])
def test_the_delay_doubles_with_each_attempt(attempt: int, seconds: float) -> None:
    assert retry_delay(attempt, 1.5) == seconds


@pytest.mark.parametrize("attempt", [13, 100, 5_000])
def test_the_delay_is_an_hour_at_most(attempt: int) -> None:
    assert retry_delay(attempt, 1.0) == 3_600


def test_no_delay_stays_none() -> None:
    assert retry_delay(7, 0.0) == 0


def test_it_is_spread_by_a_quarter_to_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", min)
    assert retry_delay(2, 10.0) == 15
    monkeypatch.setattr(random, "uniform", max)
    assert retry_delay(2, 10.0) == 25
    monkeypatch.undo()
    assert len({retry_delay(2, 10.0) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("first_seconds", "max_retries"), [(1.0, 3), (0.0, 2), (10.0, 12), (1e-9, 5_000), (5.0, 0)]
)
def test_no_retry_waits_longer_than_the_longest_delay(
    monkeypatch: pytest.MonkeyPatch, first_seconds: float, max_retries: int
) -> None:
    config = Config(name="letters", retry_delay=first_seconds, max_retries=max_retries)
    longest = longest_retry_delays(config)
    assert len(longest) == min(max_retries, 65)
    monkeypatch.setattr(random, "uniform", max)
    for attempt in range(1, max_retries + 1):
        assert retry_delay(attempt, first_seconds) == longest[min(attempt, len(longest)) - 1]
