"""Due times: one number says what a batch waits for, and until when."""

from __future__ import annotations

import pytest

from microbatch.broker.state.due import BAND_MS, due_ms, queued, retrying, running

NOW_MS = 1_700_000_000_000
TIMES = [0, 1, NOW_MS, BAND_MS - 1]


@pytest.mark.parametrize("state", [running, queued, retrying])
@pytest.mark.parametrize("time_ms", TIMES)
def test_the_due_time_is_read_from_the_score(state: type, time_ms: int) -> None:
    assert due_ms(state(time_ms)) == time_ms
    assert due_ms(float(state(time_ms))) == time_ms  # the type in which the server returns it


def test_each_state_has_its_own_band_and_within_it_the_order_is_that_of_the_due_times() -> None:
    scores = [state(time_ms) for state in (running, queued, retrying) for time_ms in TIMES]
    assert scores == sorted(set(scores))
    assert max(map(running, TIMES)) < 0 <= min(map(queued, TIMES))
    assert max(map(queued, TIMES)) < BAND_MS <= min(map(retrying, TIMES))


def test_a_score_keeps_its_milliseconds() -> None:
    """The server stores a score as a double, which is exact up to 2 ** 53."""
    assert retrying(BAND_MS) < 2**53
    assert float(retrying(NOW_MS + 1)) - float(retrying(NOW_MS)) == 1


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), 1e300, -1e300])
def test_an_infinite_score_is_a_time(score: float) -> None:
    assert 0 <= due_ms(score) <= BAND_MS
