"""The plan of what to cut, as arithmetic."""

from __future__ import annotations

import pytest

from microbatch.broker.wire.header import Trigger
from microbatch.broker.wire.in_flight import Made
from microbatch.scheduler.cutting import Cut, Planner, View, bound, plan

SIZE, TICK, FLUSH = Trigger.SIZE, Trigger.TICK, Trigger.FLUSH


def sizes(waiting: int, max_size: int, rest: Trigger | None) -> list[tuple[int, Trigger]]:
    return [(cut.size, cut.trigger) for cut in plan(View(waiting, rest), max_size)]


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
    [(1, 100), (30, 100), (250, 100), (251, 99), (12_500, 2), (12_501, 1), (25_000, 1)],
)
def test_a_transaction_has_its_bounds(max_size: int, most: int) -> None:
    assert bound(max_size) == most
    assert plan(View(max_size * 1_000), max_size) == [Cut(max_size, SIZE)] * most


def test_the_rest_of_a_backlog_waits_for_its_turn() -> None:
    assert sizes(101 * 30 + 7, 30, TICK) == [(30, SIZE)] * 100
    assert sizes(100 * 30 + 7, 30, TICK) == [(30, SIZE)] * 100
    assert sizes(99 * 30 + 7, 30, TICK) == [(30, SIZE)] * 99 + [(7, TICK)]


def test_a_batch_larger_than_the_bound_is_cut() -> None:
    assert sizes(250_000, 200_000, TICK) == [(200_000, SIZE)]
    assert sizes(150_000, 200_000, TICK) == [(150_000, TICK)]


def test_what_was_due_and_did_not_fit_is_cut_before_the_tick() -> None:
    cutter = Planner(100, 8_000_000)
    cutter.begin()
    assert cutter.plan(View(130)) == [Cut(100, SIZE)]
    cutter.made(Made([8], 7_200_000))
    assert cutter.more
    assert cutter.plan(View(122)) == [Cut(100, SIZE)]  # 130 - 8, and no more were recorded
    cutter.made(Made([8], 7_200_000))
    assert cutter.plan(View(60)) == [Cut(60, SIZE)]
    cutter.made(Made([60], 600_000))
    cutter.plan(View(54))
    cutter.made(Made([]))
    cutter.begin()
    assert cutter.plan(View(54)) == []
    assert not cutter.more


@pytest.mark.parametrize("rest", [TICK, FLUSH])
def test_a_tick_cuts_all_that_waits_however_little_fits(rest: Trigger) -> None:
    cutter = Planner(100, 8_000_000)
    cutter.begin()
    waiting = 30
    while waiting:
        assert cutter.plan(View(waiting, rest)) == [Cut(waiting, rest)]
        fits = min(8, waiting)
        cutter.made(Made([fits], fits * 900_000))
        waiting -= fits
        assert cutter.more is (waiting > 0)


def test_no_more_batches_are_planned_than_the_events_before_let_expect() -> None:
    cutter = Planner(100, 8_000_000)
    cutter.begin()
    assert len(cutter.plan(View(10_000))) == 100
    cutter.made(Made([100] * 8, 8_000_000))  # 10 kB each
    assert len(cutter.plan(View(9_200))) == 8
    cutter.made(Made([100] * 8, 800_000))
    assert len(cutter.plan(View(8_400))) == 80
    cutter.made(Made([1], 30_000_000))  # one event, larger than all that a batch may have
    assert len(cutter.plan(View(8_399))) == 1


@pytest.mark.parametrize(
    ("room", "sizes_of_cuts"),
    [(1, [(30, SIZE)]), (3, [(30, SIZE)] * 3), (4, [(30, SIZE)] * 3 + [(7, TICK)])],
)
def test_no_more_batches_are_cut_than_there_is_room_for(
    room: int, sizes_of_cuts: list[tuple[int, Trigger]]
) -> None:
    cuts = plan(View(3 * 30 + 7, TICK, room), 30)
    assert [(cut.size, cut.trigger) for cut in cuts] == sizes_of_cuts
