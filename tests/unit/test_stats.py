"""The counters, their rates, and the clock that all hosts share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError, InDoubt, Unavailable
from microbatch.broker.state.counters import Counters
from microbatch.broker.state.stats import Rates
from microbatch.broker.transport import clock as module
from microbatch.broker.transport.clock import ServerClock, ServerTime
from microbatch.broker.transport.request import command
from microbatch.broker.transport.server import Server
from tests.doubles import set_time
from tests.unit.steps import FakeClient, record, record_and_cut


def test_a_batcher_that_never_ran_has_counted_nothing(broker: Broker) -> None:
    assert broker.stats.counters() == Counters()
    assert broker.stats.rates(5_000) == Rates()


def test_rates_are_told_since_the_mark_before_the_last(broker: Broker) -> None:
    record(broker, *range(10))
    broker.stats.mark(10_000)
    assert broker.stats.rates(10_000) == Rates()
    record(broker, *range(6))
    assert broker.stats.rates(12_000) == Rates(recorded=3, done=0)
    broker.stats.mark(15_000)
    broker.ledger.commit(record_and_cut(broker, *range(4)))
    assert broker.stats.rates(20_000) == Rates(recorded=1, done=0.4)
    broker.stats.mark(20_000)
    assert broker.stats.rates(25_000) == Rates(recorded=0.4, done=0.4)
    assert broker.stats.counters().cut_events == 4


@pytest.mark.parametrize("field", ["cut_events", "mark_at", "mark_done", "past_recorded"])
def test_a_counter_that_is_no_number_is_named(broker: Broker, client: FakeClient, field: str) -> None:
    broker.stats.mark(10_000)
    if field.startswith("past"):
        broker.stats.mark(11_000)
    client.hset(broker.keys.stats, field, "many")
    with pytest.raises(DecodeError, match=f"the counter {field} is not a number"):
        broker.stats.rates(12_000)


def test_a_clock_set_back_makes_no_negative_rates(broker: Broker) -> None:
    broker.stats.mark(10_000)
    record(broker, 1)
    assert broker.stats.rates(9_000) == Rates()


class TimeServer(Server):
    """A server with its own time, which counts how often it is asked for that."""

    def __init__(self) -> None:
        super().__init__(fakeredis.FakeRedis())
        self.ms = 5_000_000.0
        self.asked = 0

    def _perform(self, asked: Any) -> Any:
        assert asked.packed == command("TIME").packed
        self.asked += 1
        return asked.decode([[b"%d" % (self.ms // 1000), b"%d" % (self.ms % 1000 * 1000)]])


def test_the_servers_time_is_asked_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(seconds=70.0)
    set_time(monkeypatch, module, monotonic=lambda: here.seconds)
    there = TimeServer()
    clock = ServerClock(there)
    assert clock.now_ms() == 5_000_000
    here.seconds += 0.999
    assert clock.now_ms() == 5_000_999
    assert there.asked == 1
    here.seconds += 0.001
    there.ms = 5_002_500.0  # it runs faster, or was set
    assert clock.now_ms() == 5_002_500
    assert there.asked == 2


def test_the_servers_time_is_asked_for_anew_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    set_time(monkeypatch, module, monotonic=lambda: 70.0)
    there = TimeServer()
    clock = ServerClock(there)
    assert clock.now_ms() == 5_000_000
    there.ms = 1_400_000.0  # it was set back by an hour
    assert clock.now_ms() == 5_000_000
    clock.look_again()
    assert clock.now_ms() == clock.now_ms() == 1_400_000
    assert there.asked == 2


def test_a_fake_servers_time_is_the_time(client: FakeClient) -> None:
    assert ServerClock(Server(client)).now_ms() > 1_700_000_000_000


def test_a_time_that_was_not_told_leaves_nothing_in_doubt() -> None:
    """The caller may have been about to record an event. It is certain that it did not."""
    reading = ServerTime().reading()
    next(reading)
    with pytest.raises(Unavailable, match="the server did not tell its time: no reply"):
        reading.throw(InDoubt("no reply"))
