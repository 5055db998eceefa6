"""The fence: a scheduler that does not hold the lease cuts nothing, however late it finds out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microbatch.broker.errors import LeaseChanged, LeaseLost
from microbatch.broker.state.lease import Lease
from microbatch.broker.state.wake import Wake
from microbatch.broker.state.wake_listener import LeaseWatch, ServerWakeListener, Wakeup
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import new_batch
from microbatch.scheduler.scheduler import Scheduler
from tests.doubles import ManualTicker
from tests.fleet import Fleet
from tests.servers import RealServer
from tests.waiting import wait_until
from tests.wiretap import wiretap


def cut(
    fleet: Fleet,
    lease: Lease,
    meanwhile: Callable[[], object] = lambda: None,
    watch: LeaseWatch | None = None,
) -> list[int]:
    """Cut with this lease. Something else happens just before the transaction is sent."""

    batch = new_batch(Header(Trigger.TICK, 3, 1))
    with lease.fence(watch) as fence:
        meanwhile()
        return fence.cut([batch], [("SET", "test:enqueued", 1)], due_ms=1).sizes


@pytest.fixture
def ring(fleet: Fleet) -> Iterator[Callable[[], LeaseWatch]]:
    """A function that wakes the listener, and returns what the listener saw at that moment."""
    listener = ServerWakeListener(fleet.broker.server, fleet.broker.keys)

    def ring() -> LeaseWatch:
        fleet.broker.wake.tell(Wake.SIZE)
        ring = listener.wait(10)
        assert ring is not None
        assert ring.watch is not None
        return ring.watch

    yield ring
    listener.close()


def assert_nothing_was_cut(fleet: Fleet, server: RealServer) -> None:
    assert fleet.broker.events.waiting() == 3
    assert fleet.broker.ledger.in_flight() == []
    assert fleet.broker.stats.counters().cut_batches == 0
    assert not server.admin.exists("test:enqueued")


@pytest.fixture
def fleet(server: RealServer, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(server, tmp_path) as fleet:
        fleet.batcher().record_events([1, 2, 4])
        yield fleet


@pytest.mark.leaves("events")
def test_another_holds_the_lease(server: RealServer, fleet: Fleet) -> None:
    other, stalled = fleet.broker.lease(), fleet.broker.lease()
    assert other.acquire()
    with pytest.raises(LeaseLost):
        cut(fleet, stalled)
    assert_nothing_was_cut(fleet, server)


@pytest.mark.leaves("events")
def test_another_takes_the_lease_meanwhile(server: RealServer, fleet: Fleet) -> None:
    other, stalled = fleet.broker.lease(), fleet.broker.lease()
    assert stalled.acquire()

    def change_hands() -> None:
        stalled.release()
        assert other.acquire()

    with pytest.raises(LeaseChanged):
        cut(fleet, stalled, change_hands)
    assert_nothing_was_cut(fleet, server)


@pytest.mark.leaves("events")
def test_the_lease_runs_out_meanwhile(server: RealServer, fleet: Fleet) -> None:
    stalled = Lease(fleet.broker.server, fleet.broker.keys, 1_000)  # long enough to begin the cut
    expired = server.admin.info("stats")["expired_keys"]
    assert stalled.acquire()

    def run_out() -> None:
        wait_until(lambda: server.admin.info("stats")["expired_keys"] > expired)

    with pytest.raises(LeaseChanged):
        cut(fleet, stalled, run_out)
    assert_nothing_was_cut(fleet, server)


@pytest.mark.leaves("inflight", "batch")
def test_a_cut_prolongs_the_lease(server: RealServer, fleet: Fleet) -> None:
    lease = fleet.broker.lease()
    assert lease.acquire()
    server.admin.pexpire(fleet.broker.keys.lease, 900)
    assert cut(fleet, lease) == [3]
    assert server.admin.pttl(fleet.broker.keys.lease) > 900


@pytest.mark.leaves("inflight", "batch")
def test_what_the_listener_saw_is_valid_for_a_cut(
    server: RealServer, fleet: Fleet, ring: Callable[[], LeaseWatch]
) -> None:
    lease = fleet.broker.lease()
    assert lease.acquire()
    watch = ring()
    assert watch.waiting == 3
    with wiretap(server) as said:
        assert cut(fleet, lease, watch=watch) == [3]
    assert said.trips == ["MULTI cut PEXPIRE SET EXEC"]


@pytest.mark.leaves("events")
def test_a_look_from_before_a_renewal_is_not_valid_for_a_cut(
    server: RealServer, fleet: Fleet, ring: Callable[[], LeaseWatch]
) -> None:
    lease = fleet.broker.lease()
    assert lease.acquire()
    watch = ring()
    assert lease.renew()
    with pytest.raises(LeaseChanged):
        cut(fleet, lease, watch=watch)
    assert_nothing_was_cut(fleet, server)


@pytest.mark.leaves("inflight", "batch")
def test_a_scheduler_whose_look_is_too_old_looks_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    ticker = ManualTicker()
    scheduler = Scheduler(fleet.config(max_size=4), ticker=ticker)
    ticker.tick()
    assert scheduler.run_once() == 1
    fleet.batcher().record_events([5, 6, 7, 8])
    fleet.broker.wake.tell(Wake.SIZE)
    wait = scheduler._listener.wait

    def wait_and_renew(seconds: float) -> Wakeup | None:
        ring = wait(10)
        assert scheduler._leadership.lease.renew()
        return ring

    monkeypatch.setattr(scheduler._listener, "wait", wait_and_renew)
    assert scheduler.run_once() == 1
    assert fleet.broker.stats.counters().cut_batches == 2
    scheduler.stop()
    scheduler.run()


@pytest.mark.leaves("inflight", "batch")
def test_an_unused_look_does_not_affect_a_later_one(
    server: RealServer, fleet: Fleet, ring: Callable[[], LeaseWatch]
) -> None:
    lease = fleet.broker.lease()
    assert lease.acquire()
    ring()
    assert lease.renew()
    watch = ring()
    with wiretap(server) as said:
        assert cut(fleet, lease, watch=watch) == [3]
    assert len(said.trips) == 1


@pytest.mark.leaves("events")
def test_another_takes_the_lease_after_the_listener_woke(
    server: RealServer, fleet: Fleet, ring: Callable[[], LeaseWatch]
) -> None:
    other, stalled = fleet.broker.lease(), fleet.broker.lease()
    assert stalled.acquire()
    watch = ring()
    stalled.release()
    assert other.acquire()
    with pytest.raises(LeaseLost):
        cut(fleet, stalled, watch=watch)
    assert_nothing_was_cut(fleet, server)
