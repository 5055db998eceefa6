"""Several schedulers: which one is active, and how another takes over."""

from __future__ import annotations

from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import LeaseLost, Unavailable
from microbatch.broker.state import lease
from microbatch.broker.state.wake import Wake
from microbatch.scheduler import chores
from microbatch.scheduler.scheduler import Scheduler
from tests.doubles import ManualClock, ManualTicker, ManualWakeListener, set_time
from tests.unit.conftest import MakeBroker
from tests.unit.steps import FakeClient, batches_of, record


class Stopwatch:
    """A monotonic clock for the scheduler's chores, moved by a test."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def monotonic(self) -> float:
        return self.seconds


class Pauses:
    """The scheduler's wait when it can't be woken.

    It records each pause, and ends the scheduler after some.
    """

    def __init__(self, until: int) -> None:
        self.seconds: list[float] = []
        self._until = until

    def is_set(self) -> bool:
        return len(self.seconds) >= self._until

    def set(self) -> None:
        self._until = 0

    def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    stopwatch = Stopwatch()
    for module in (chores, lease):
        set_time(monkeypatch, module, monotonic=stopwatch.monotonic)
    return stopwatch


def scheduler_of(broker: Broker, clock: ManualClock, pauses: int = 1_000) -> Scheduler:
    scheduler = Scheduler(
        broker.config, broker=broker, clock=clock, ticker=ManualTicker(), listener=ManualWakeListener()
    )
    scheduler._stopping = Pauses(pauses)  # type: ignore[assignment]
    return scheduler


def pauses_of(scheduler: Scheduler) -> list[float]:
    pauses: Any = scheduler._stopping
    assert isinstance(pauses, Pauses)
    return pauses.seconds


def ring(scheduler: Scheduler, word: Wake) -> ManualWakeListener:
    listener = scheduler._listener
    assert isinstance(listener, ManualWakeListener)
    listener.wake(word)
    return listener


def test_the_second_stands_by(make_broker: MakeBroker, clock: ManualClock, client: FakeClient) -> None:
    active, standby = (scheduler_of(make_broker(), clock) for _ in range(2))
    record(active.broker, 1)
    active.run_once()
    listener = ring(standby, Wake.FLUSH)
    assert standby.run_once() == 0
    assert (active.active, standby.active) == (True, False)
    assert listener.waits == []
    assert pauses_of(standby) == [30]  # a twentieth of the lease
    assert batches_of(active.broker) == []
    assert client.zcard(active.broker.keys.schedulers) == 2


def test_it_takes_over_when_the_lease_ran_out(
    make_broker: MakeBroker, clock: ManualClock, client: FakeClient
) -> None:
    active, standby = (scheduler_of(make_broker(), clock) for _ in range(2))
    active.run_once()
    standby.run_once()
    record(active.broker, 1)
    client.delete(active.broker.keys.lease)  # as its expiry does
    ring(standby, Wake.FLUSH)
    assert standby.run_once() == 1
    assert standby.active
    ring(active, Wake.FLUSH)
    record(active.broker, 2)
    with pytest.raises(LeaseLost):
        active.run_once()
    assert [events for _, events in batches_of(active.broker)] == [[1]]


def test_it_takes_over_when_the_lease_outlives_its_holder(
    make_broker: MakeBroker,
    clock: ManualClock,
    client: FakeClient,
    stopwatch: Stopwatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dead, standby = (scheduler_of(make_broker(lease_ttl=60), clock) for _ in range(2))
    dead.run_once()
    holder = lease.holder_of(client.get(dead.broker.keys.lease).decode())
    client.pexpire(dead.broker.keys.lease, 3_600_000)  # the server's clock is set back by an hour
    for _ in range(4):
        standby.run_once()
        assert not standby.active
        stopwatch.seconds += 59
    assert "the lease is taken from" not in caplog.text
    standby.run_once()
    assert standby.active
    assert f"letters: the lease is taken from {holder}, which has not renewed it for long" in caplog.text
    ring(dead, Wake.FLUSH)
    record(dead.broker, 1)
    with pytest.raises(LeaseLost):
        dead.run_once()


def test_the_lease_is_renewed_in_time(
    make_broker: MakeBroker, clock: ManualClock, client: FakeClient, stopwatch: Stopwatch
) -> None:
    scheduler = scheduler_of(make_broker(lease_ttl=60), clock)
    scheduler.run_once()
    client.pexpire(scheduler.broker.keys.lease, 40_000)
    stopwatch.seconds += 19.9
    scheduler.run_once()
    assert client.pttl(scheduler.broker.keys.lease) <= 40_000
    stopwatch.seconds += 0.2
    scheduler.run_once()
    assert client.pttl(scheduler.broker.keys.lease) > 50_000


def test_a_scheduler_that_slept_past_its_lease_notices_before_it_waits(
    make_broker: MakeBroker, clock: ManualClock, client: FakeClient, stopwatch: Stopwatch
) -> None:
    scheduler = scheduler_of(make_broker(), clock)
    scheduler.run_once()
    listener = ring(scheduler, Wake.FLUSH)
    waited = len(listener.waits)
    client.set(scheduler.broker.keys.lease, "host:2:other")
    stopwatch.seconds += 3_600
    with pytest.raises(LeaseLost):
        scheduler.run_once()
    assert len(listener.waits) == waited


def test_it_wakes_for_its_chores_also_between_ticks(
    make_broker: MakeBroker, clock: ManualClock, stopwatch: Stopwatch
) -> None:
    scheduler = scheduler_of(make_broker(), clock)
    listener = scheduler._listener
    assert isinstance(listener, ManualWakeListener)
    scheduler.run_once()
    scheduler.run_once()
    assert listener.waits == [0.5, 0.5]  # the next tick is a minute away


def test_run_stands_by_when_the_lease_is_lost(
    make_broker: MakeBroker, clock: ManualClock, client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = scheduler_of(make_broker(), clock, pauses=3)
    scheduler.run_once()
    client.set(scheduler.broker.keys.lease, "host:2:other")
    record(scheduler.broker, 1)
    ring(scheduler, Wake.FLUSH)
    scheduler.run()
    assert pauses_of(scheduler) == [30, 30, 30]
    assert "letters: no longer active, standing by" in caplog.text
    assert client.get(scheduler.broker.keys.lease) == b"host:2:other"
    assert batches_of(scheduler.broker) == []


def test_run_waits_ever_longer_for_a_server_that_is_away(
    make_broker: MakeBroker,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler = scheduler_of(make_broker(), clock, pauses=9)

    step = scheduler.run_once

    def away_for_a_while() -> int:
        if len(pauses_of(scheduler)) < 8:
            raise Unavailable("no server answers")
        return step()

    monkeypatch.setattr(scheduler, "run_once", away_for_a_while)
    scheduler.broker.lease().acquire()  # so that it stands by when the server is back
    caplog.set_level("INFO")
    scheduler.run()
    assert pauses_of(scheduler) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 30]
    assert caplog.text.count("no server answers; trying again until it answers") == 1
    assert "letters: the server answers again" in caplog.text


def test_a_stopped_scheduler_hands_over_at_once(
    make_broker: MakeBroker, clock: ManualClock, client: FakeClient
) -> None:
    active, standby = (scheduler_of(make_broker(), clock) for _ in range(2))
    active.run_once()
    standby.run_once()
    active.stop()
    assert client.lrange(active.broker.keys.wake, 0, -1) == [b"reconcile"]  # otherwise it waits for its tick
    active.run()
    assert not active.active
    assert not client.exists(active.broker.keys.lease, active.broker.keys.wake)
    assert client.zcard(active.broker.keys.schedulers) == 1
    standby.run_once()
    assert standby.active


def test_a_standby_that_is_stopped_leaves_the_lease_alone(
    make_broker: MakeBroker, clock: ManualClock, client: FakeClient
) -> None:
    active, standby = (scheduler_of(make_broker(), clock) for _ in range(2))
    active.run_once()
    standby.run_once()
    standby.stop()
    standby.run()
    assert not client.exists(active.broker.keys.wake)
    assert client.exists(active.broker.keys.lease)
    assert active.run_once() == 0


def test_a_stop_during_the_wait_cuts_nothing_more(make_broker: MakeBroker, clock: ManualClock) -> None:
    scheduler = scheduler_of(make_broker(), clock)
    record(scheduler.broker, 1)
    ring(scheduler, Wake.FLUSH)
    scheduler.stop()
    assert scheduler.run_once() == 0
    assert scheduler.broker.events.waiting() == 1
