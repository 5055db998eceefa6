"""What to cut, as arithmetic."""

from __future__ import annotations

import pytest

from microbatch.broker.wire import Trigger
from microbatch.scheduler.cutting import Cut, bound, plan

SIZE, TICK, FLUSH = Trigger.SIZE, Trigger.TICK, Trigger.FLUSH


def sizes(waiting: int, max_size: int, rest: Trigger | None) -> list[tuple[int, Trigger]]:
    return [(cut.size, cut.trigger) for cut in plan(waiting, max_size, rest)]


@pytest.mark.parametrize(
    ("waiting", "full", "over"),
    [(0, 0, 0), (1, 0, 1), (29, 0, 29), (30, 1, 0), (31, 1, 1), (59, 1, 29), (60, 2, 0), (303, 10, 3)],
)
@pytest.mark.parametrize("rest", [None, TICK, FLUSH])
def test_full_batches_at_once_and_the_rest_only_for_a_reason(
    waiting: int, full: int, over: int, rest: Trigger | None
) -> None:
    expected = [(30, SIZE)] * full + ([(over, rest)] if over and rest else [])
    assert sizes(waiting, 30, rest) == expected


@pytest.mark.parametrize("rest", [None, TICK])
def test_batches_of_one_are_all_full(rest: Trigger | None) -> None:
    assert sizes(0, 1, rest) == []
    assert sizes(3, 1, rest) == [(1, SIZE)] * 3


@pytest.mark.parametrize(
    ("max_size", "most"),
    [(1, 100), (30, 100), (1_000, 100), (1_001, 99), (60_000, 1), (100_000, 1), (100_001, 1), (10**9, 1)],
)
def test_a_transaction_has_its_bounds(max_size: int, most: int) -> None:
    assert bound(max_size) == most
    assert plan(max_size * 1_000, max_size, None) == [Cut(max_size, SIZE)] * most


def test_the_rest_of_a_backlog_waits_for_its_turn() -> None:
    assert sizes(101 * 30 + 7, 30, TICK) == [(30, SIZE)] * 100
    assert sizes(100 * 30 + 7, 30, TICK) == [(30, SIZE)] * 100
    assert sizes(99 * 30 + 7, 30, TICK) == [(30, SIZE)] * 99 + [(7, TICK)]


def test_a_batch_larger_than_the_bound_is_cut_all_the_same() -> None:
    assert sizes(250_000, 200_000, TICK) == [(200_000, SIZE)]
    assert sizes(150_000, 200_000, TICK) == [(150_000, TICK)]
