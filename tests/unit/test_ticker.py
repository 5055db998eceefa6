"""Ticks lie on a fixed grid."""

from __future__ import annotations

from microbatch.scheduler.ticker import GridTicker


def test_ticks_are_the_multiples_of_the_frequency() -> None:
    ticker = GridTicker(1_000)
    ticked = [now_ms for now_ms in range(10_300, 14_000, 100) if ticker.ticked(now_ms)]
    assert ticked == [11_000, 12_000, 13_000]


def test_the_time_to_the_next_tick() -> None:
    ticker = GridTicker(1_000)
    assert ticker.remaining_ms(10_300) == 700
    assert ticker.remaining_ms(10_999) == 1
    assert ticker.remaining_ms(11_000) == 0
    assert ticker.remaining_ms(11_400) == 0  # it stays due until it is asked for
    assert ticker.ticked(11_400)
    assert ticker.remaining_ms(11_400) == 600


def test_a_frequency_that_does_not_divide_a_second_has_its_own_grid() -> None:
    ticker = GridTicker(7)
    assert [now_ms for now_ms in range(7 * 1_000_000 + 1, 7 * 1_000_000 + 22) if ticker.ticked(now_ms)] == [
        7 * 1_000_001, 7 * 1_000_002, 7 * 1_000_003,
    ]  # fmt: skip


def test_asked_late_each_time_it_does_not_drift() -> None:
    ticker = GridTicker(1_000)
    ticker.remaining_ms(10_000)
    for second in range(11, 40):
        assert not ticker.ticked(second * 1_000 - 1)
        assert ticker.ticked(second * 1_000 + 137)
        assert ticker.remaining_ms(second * 1_000 + 137) == 863


def test_ticks_that_were_missed_are_not_made_up_for() -> None:
    ticker = GridTicker(1_000)
    ticker.remaining_ms(10_300)
    assert ticker.ticked(55_500)
    assert not ticker.ticked(55_500)
    assert not ticker.ticked(55_999)
    assert ticker.ticked(56_000)


def test_two_tickers_that_started_apart_tick_together() -> None:
    first, second = GridTicker(250), GridTicker(250)
    first.remaining_ms(10_001)
    second.remaining_ms(10_249)
    assert first.ticked(10_250)
    assert second.ticked(10_250)


def test_a_ticker_that_starts_on_a_tick_waits_for_the_next() -> None:
    ticker = GridTicker(1_000)
    assert not ticker.ticked(11_000)
    assert ticker.remaining_ms(11_000) == 1_000


def test_a_clock_set_back_does_not_stop_the_ticks() -> None:
    ticker = GridTicker(1_000)
    assert not ticker.ticked(3_600_500)
    assert ticker.remaining_ms(500) == 500
    assert not ticker.ticked(999)
    assert ticker.ticked(1_000)


def test_a_clock_set_forward_ticks_once() -> None:
    ticker = GridTicker(1_000)
    assert not ticker.ticked(500)
    assert ticker.ticked(3_600_500)
    assert not ticker.ticked(3_600_900)
    assert ticker.ticked(3_601_000)
