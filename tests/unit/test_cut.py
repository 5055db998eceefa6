"""The cut: waiting events become batches in one transaction, fenced by the lease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import LeaseChanged, LeaseLost, Refused
from microbatch.broker.transport.request import Command
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import Made, NewBatch, new_batch
from microbatch.broker.wire.run_record import RunRecord
from tests.unit.steps import (
    CUT_AT_MS,
    TOKEN,
    FakeClient,
    batches_of,
    check_account,
    client_of,
    cut,
    lease_of,
    record,
    snapshot,
    values_of,
)


def stored(broker: Broker, batch: NewBatch) -> list[int]:
    """The events of a batch, after a check of the two values before them."""
    header, run, *events = client_of(broker).lrange(broker.keys.batch(batch.id), 0, -1)
    assert Header.decode(header) == batch.header
    assert RunRecord.decode(run) == RunRecord()
    return values_of(events)


def waiting(broker: Broker) -> list[int]:
    return values_of(client_of(broker).lrange(broker.keys.events, 0, -1))


def cut_one(
    broker: Broker, batch: NewBatch, *jobs: Command, meanwhile: Callable[[], object] = int
) -> list[int]:
    """Cut a batch. Something else happens just before the transaction is sent."""
    with lease_of(broker).fence() as fence:
        meanwhile()
        return fence.cut([batch], jobs, due_ms=1).sizes


def test_the_oldest_events_move_into_the_batch(broker: Broker) -> None:
    record(broker, 1, 2, 3, 4, 5)
    (batch,) = cut(broker, 3, due_ms=70)
    assert stored(broker, batch) == [1, 2, 3]
    assert waiting(broker) == [4, 5]
    assert client_of(broker).zrange(broker.keys.inflight, 0, -1, withscores=True) == [
        (batch.id.encode(), 70.0)
    ]
    counters = broker.stats.counters()
    assert (counters.cut_batches, counters.cut_events) == (1, 3)
    check_account(broker)


def test_a_batch_of_all_that_waits_takes_the_whole_list(broker: Broker) -> None:
    record(broker, 1, 2, 3)
    (batch,) = cut(broker, 3)
    assert stored(broker, batch) == [1, 2, 3]
    assert client_of(broker).exists(broker.keys.events) == 0
    record(broker, 4)  # into a new list, not into the batch
    assert waiting(broker) == [4]
    assert stored(broker, batch) == [1, 2, 3]
    check_account(broker)


def test_several_batches_are_cut_at_once(broker: Broker) -> None:
    record(broker, 1, 2, 3, 4, 5, 6)
    batches = cut(broker, 2, 3, 1)
    assert [stored(broker, batch) for batch in batches] == [[1, 2], [3, 4, 5], [6]]
    assert waiting(broker) == []
    assert sorted(broker.ledger.in_flight()) == sorted(batch.id for batch in batches)
    counters = broker.stats.counters()
    assert (counters.cut_batches, counters.cut_events) == (3, 6)
    check_account(broker)


@pytest.mark.parametrize("left", [0, 2])
def test_more_events_than_one_move_takes_stay_in_order(broker: Broker, left: int) -> None:
    record(broker, *range(12_001 + left))
    (batch,) = cut(broker, 12_001)
    assert stored(broker, batch) == list(range(12_001))
    assert waiting(broker) == list(range(12_001, 12_001 + left))
    check_account(broker)


def text(length: int) -> str:
    """A value whose event has this many bytes: a version, a time, and two quotes included."""
    return "x" * (length - 14)


def cut_of(broker: Broker, *sizes: int, max_bytes: int, event_bytes: int = 0) -> tuple[Made, list[NewBatch]]:
    client_of(broker).set(broker.keys.lease, TOKEN)
    batches = [new_batch(Header(Trigger.SIZE, size, CUT_AT_MS)) for size in sizes]
    with lease_of(broker).fence() as fence:
        return fence.cut(batches, (), due_ms=1, max_bytes=max_bytes, event_bytes=event_bytes), batches


def lengths(broker: Broker, batch: NewBatch) -> list[int]:
    """The sizes of a batch's events in bytes, after a check that its header has their number."""
    header, _, *events = client_of(broker).lrange(broker.keys.batch(batch.id), 0, -1)
    assert Header.decode(header) == replace(batch.header, size=len(events))
    return [len(event) for event in events]


@pytest.mark.parametrize("event_bytes", [0, 1, 100, 10**6])
def test_a_batch_is_closed_at_its_bytes(broker: Broker, event_bytes: int) -> None:
    """A batch may have exactly as many bytes as allowed.

    The next one begins with the event that did not fit.
    """
    record(broker, *(text(100) for _ in range(30)), text(101), *(text(50) for _ in range(9)))
    made, batches = cut_of(broker, 40, 40, 40, max_bytes=1_000, event_bytes=event_bytes)
    assert made == Made([10, 10, 10], 3_000)
    assert [lengths(broker, batch) for batch in batches] == [[100] * 10] * 3
    assert broker.events.waiting() == 10
    made, (batch,) = cut_of(broker, 40, max_bytes=550, event_bytes=event_bytes)
    assert (made, lengths(broker, batch)) == (Made([9], 501), [101, *[50] * 8])
    made, (batch,) = cut_of(broker, 40, max_bytes=49, event_bytes=event_bytes)
    assert (made, lengths(broker, batch)) == (Made([1], 50), [50])
    assert broker.events.waiting() == 0
    check_account(broker)


def test_an_event_larger_than_a_batch_may_be_goes_alone(broker: Broker) -> None:
    record(broker, text(20), text(501), text(502), text(20), text(20))
    made, batches = cut_of(broker, 9, 9, 9, 9, 9, max_bytes=500)
    assert made.sizes == [1, 1, 1, 2]
    assert [lengths(broker, batch) for batch in batches[:4]] == [[20], [501], [502], [20, 20]]
    check_account(broker)


def test_no_batch_is_begun_beyond_the_bytes_of_one_call(broker: Broker) -> None:
    """Batches that were not made leave nothing behind, and their events still wait."""
    record(broker, *(text(1_000_000) for _ in range(20)))
    made, batches = cut_of(broker, 3, 3, 3, 3, 3, max_bytes=8_000_000)
    assert made == Made([3, 3], 6_000_000)
    assert sorted(broker.ledger.in_flight()) == sorted(batch.id for batch in batches[:2])
    assert broker.events.waiting() == 14
    check_account(broker)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_sizes_each_event_is_in_one_batch_in_order(broker: Broker, seed: int) -> None:
    dice = Random(seed)
    events = [text(dice.choice([14, 15, 20, 80, 400, 999, 1_000, 1_001, 3_000])) for _ in range(300)]
    record(broker, *events)
    found: list[bytes] = []
    all_events = client_of(broker).lrange(broker.keys.events, 0, -1)
    while broker.events.waiting():
        sizes = [dice.randint(1, 120) for _ in range(dice.randint(1, 5))]
        made, batches = cut_of(broker, *sizes, max_bytes=1_000, event_bytes=dice.choice([0, 20, 5_000]))
        assert made.sizes
        for batch, size in zip(batches, made.sizes, strict=False):
            bytes_of_each = lengths(broker, batch)
            assert len(bytes_of_each) == size <= batch.header.size
            assert sum(bytes_of_each) <= 1_000 or size == 1
            found += client_of(broker).lrange(broker.keys.batch(batch.id), 2, -1)
    assert found == all_events
    check_account(broker)


def test_chunks_do_not_run_over_from_batch_to_batch(broker: Broker) -> None:
    record(broker, *range(10_001))
    first, second = cut(broker, 5_001, 5_000)
    assert stored(broker, first) == list(range(5_001))
    assert stored(broker, second) == list(range(5_001, 10_001))
    assert waiting(broker) == []


def test_fewer_events_than_asked_for_make_fewer_batches(broker: Broker) -> None:
    record(broker, 1, 2, 3)
    client_of(broker).set(broker.keys.lease, TOKEN)
    batches = [new_batch(Header(Trigger.SIZE, 2, CUT_AT_MS)) for _ in range(3)]
    with lease_of(broker).fence() as fence:
        assert fence.waiting == 3
        assert fence.cut(batches, (), due_ms=1).sizes == [2, 1]
    assert sorted(broker.ledger.in_flight()) == sorted(batch.id for batch in batches[:2])
    assert client_of(broker).exists(broker.keys.batch(batches[2].id)) == 0
    check_account(broker)


def test_where_nothing_waits_nothing_is_made(broker: Broker, client: FakeClient) -> None:
    client.set(broker.keys.lease, TOKEN)
    before = snapshot(client)
    assert cut_one(broker, new_batch(Header(Trigger.TICK, 1, CUT_AT_MS))) == []
    assert snapshot(client) == before


def test_the_id_of_a_batch_that_is_there_is_refused(broker: Broker, client: FakeClient) -> None:
    record(broker, 1, 2)
    (batch,) = cut(broker, 1)
    before = snapshot(client)
    with pytest.raises(Refused, match="BATCHEXISTS"):
        cut_one(broker, batch)
    assert snapshot(client) == before


@pytest.mark.parametrize("part", ["events", "inflight", "stats", "progress"])
def test_a_key_of_a_wrong_type_is_refused_before_anything_is_done(
    broker: Broker, client: FakeClient, part: str
) -> None:
    client.set(broker.keys.lease, TOKEN)
    if part != "events":
        record(broker, 1, 2)
    client.set(getattr(broker.keys, part), "a string")
    before = snapshot(client)
    with pytest.raises(Refused, match="WRONGTYPE"):
        cut_one(broker, new_batch(Header(Trigger.SIZE, 1, CUT_AT_MS)))
    assert snapshot(client) == before


@pytest.mark.parametrize("holder", ["", "host:2:other"])
def test_without_the_lease_nothing_is_cut(broker: Broker, client: FakeClient, holder: str) -> None:
    record(broker, 1)
    if holder:
        client.set(broker.keys.lease, holder)
    before = snapshot(client)
    with pytest.raises(LeaseLost):
        cut_one(broker, new_batch(Header(Trigger.SIZE, 1, CUT_AT_MS)))
    assert snapshot(client) == before


def test_a_lease_that_changes_hands_in_between_is_noticed(broker: Broker, client: FakeClient) -> None:
    record(broker, 1)
    client.set(broker.keys.lease, TOKEN)

    def lose_it() -> None:
        client.set(broker.keys.lease, "host:2:other")

    with pytest.raises(LeaseChanged):
        cut_one(
            broker, new_batch(Header(Trigger.SIZE, 1, CUT_AT_MS)), ("SET", "test:job", 1), meanwhile=lose_it
        )
    assert waiting(broker) == [1]
    assert client.keys("test:*") == []
    assert batches_of(broker) == []
    assert client.get(broker.keys.lease) == b"host:2:other"


def test_jobs_are_enqueued_with_the_cut_and_the_lease_is_prolonged(
    broker: Broker, client: FakeClient
) -> None:
    record(broker, 1)
    client.set(broker.keys.lease, TOKEN, px=600)
    batch = new_batch(Header(Trigger.SIZE, 1, CUT_AT_MS))
    cut_one(broker, batch, ("SET", "test:job", batch.id))
    assert client.get("test:job") == batch.id.encode()
    assert 600 < client.pttl(broker.keys.lease) <= 600_000


def test_those_who_wait_for_an_end_are_told(broker: Broker, client: FakeClient) -> None:
    record(broker, 1, 2)
    cut(broker, 1)
    assert client.exists(broker.keys.progress) == 0
    broker.progress().open()
    cut(broker, 1)
    assert [fields for _, fields in client.xrange(broker.keys.progress)] == [{b"cut": b"1"}]
