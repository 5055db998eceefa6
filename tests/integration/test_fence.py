"""The fence: who is not, or no longer, the active scheduler cuts nothing, however late it finds out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from microbatch.broker.errors import InDoubt, LeaseLost
from microbatch.broker.state.lease import Lease
from microbatch.broker.state.wake import Wake
from microbatch.broker.state.wake_listener import LeaseWatch, ServerWakeListener
from microbatch.broker.transport.transaction import Transaction
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import NewBatch, new_batch
from tests.fleet import Fleet
from tests.servers import RealServer
from tests.waiting import wait_until
from tests.wiretap import wiretap


def cut(
    fleet: Fleet, lease: Lease, meanwhile: Callable[[], object] = lambda: None, look: LeaseWatch | None = None
) -> list[int]:
    """Cut with this lease; something else happens just before the transaction is sent."""

    def enqueue(pipe: Transaction, batches: Sequence[NewBatch]) -> None:
        meanwhile()
        pipe.set("test:enqueued", len(batches))

    batch = new_batch(Header(Trigger.TICK, 3, 1))
    return fleet.broker.cutter.cut(
        lambda _waiting: [batch],
        due_ms=1,
        token=lease.token,
        lease_ttl_ms=lease.ttl_ms,
        enqueue=enqueue,
        look=look,
    ).sizes


@pytest.fixture
def ring(fleet: Fleet) -> Iterator[Callable[[], LeaseWatch]]:
    """Rings the listener, and returns what was seen then."""
    listener = ServerWakeListener(fleet.broker.server, fleet.broker.keys)

    def ring() -> LeaseWatch:
        fleet.broker.wake.tell(Wake.SIZE)
        ring = listener.wait(10)
        assert ring is not None
        assert ring.look is not None
        return ring.look

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

    with pytest.raises(InDoubt):
        cut(fleet, stalled, change_hands)
    assert_nothing_was_cut(fleet, server)


@pytest.mark.leaves("events")
def test_the_lease_runs_out_meanwhile(server: RealServer, fleet: Fleet) -> None:
    stalled = Lease(fleet.broker.server, fleet.broker.keys, 1_000)  # time enough to begin the cut
    expired = server.admin.info("stats")["expired_keys"]
    assert stalled.acquire()

    def run_out() -> None:
        wait_until(lambda: server.admin.info("stats")["expired_keys"] > expired)

    with pytest.raises(InDoubt):
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
def test_what_was_seen_when_the_bell_rang_is_good_for_a_cut(
    server: RealServer, fleet: Fleet, ring: Callable[[], LeaseWatch]
) -> None:
    lease = fleet.broker.lease()
    assert lease.acquire()
    look = ring()
    assert look.waiting == 3
    with wiretap(server) as said:
        assert cut(fleet, lease, look=look) == [3]
    assert said.trips == ["MULTI cut PEXPIRE SET EXEC"]


@pytest.mark.leaves("inflight", "batch")
def test_a_look_that_is_too_old_is_made_again(fleet: Fleet, ring: Callable[[], LeaseWatch]) -> None:
    lease = fleet.broker.lease()
    assert lease.acquire()
    look = ring()
    assert lease.renew()
    assert cut(fleet, lease, look=look) == [3]
    assert fleet.broker.stats.counters().cut_batches == 1


@pytest.mark.leaves("inflight", "batch")
def test_a_look_of_which_no_use_was_made_spoils_none_after_it(
    server: RealServer, fleet: Fleet, ring: Callable[[], LeaseWatch]
) -> None:
    lease = fleet.broker.lease()
    assert lease.acquire()
    ring()
    assert lease.renew()
    look = ring()
    with wiretap(server) as said:
        assert cut(fleet, lease, look=look) == [3]
    assert len(said.trips) == 1


@pytest.mark.leaves("events")
def test_another_takes_the_lease_after_the_bell_rang(
    server: RealServer, fleet: Fleet, ring: Callable[[], LeaseWatch]
) -> None:
    other, stalled = fleet.broker.lease(), fleet.broker.lease()
    assert stalled.acquire()
    look = ring()
    stalled.release()
    assert other.acquire()
    with pytest.raises(LeaseLost):
        cut(fleet, stalled, look=look)
    assert_nothing_was_cut(fleet, server)
