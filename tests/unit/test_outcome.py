"""A batch's outcome: it is committed or buried once, by the first call."""

from __future__ import annotations

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header
from tests.doubles import ManualClock
from tests.unit.steps import (
    FAILURE,
    FakeClient,
    bury,
    check_account,
    claim,
    record_and_cut,
    snapshot,
    values_of,
)

ENTRY = ("v", 1, "result", "6")


# commit


def test_commit_frees_the_batch_and_adds_its_result(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, 1, 2, 3)
    claim(broker, batch_id)
    assert broker.ledger.commit(batch_id, Ending(ENTRY))
    assert client.exists(broker.keys.batch(batch_id), broker.keys.inflight) == 0
    assert [fields for _, fields in client.xrange(broker.keys.results)] == [{b"v": b"1", b"result": b"6"}]
    counters = broker.stats.counters()
    assert (counters.done_batches, counters.done_events) == (1, 3)
    check_account(broker)


def test_a_commit_without_a_result_adds_no_entry(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, 1)
    assert broker.ledger.commit(batch_id)
    assert client.exists(broker.keys.results) == 0
    check_account(broker)


def test_only_the_first_commit_counts(broker: Broker, client: FakeClient) -> None:
    batch_id, other = record_and_cut(broker, 1), record_and_cut(broker, 2)
    assert broker.ledger.commit(batch_id, Ending(ENTRY))
    before = snapshot(client)
    assert not broker.ledger.commit(batch_id, Ending(ENTRY))
    assert snapshot(client) == before
    assert broker.ledger.in_flight() == [other]


def test_a_batch_that_was_deleted_by_hand_is_not_committed(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, 1)
    client.delete(broker.keys.batch(batch_id))
    before = snapshot(client)
    assert not broker.ledger.commit(batch_id, Ending(ENTRY))
    assert snapshot(client) == before


def test_a_zombie_that_commits_first_is_the_one_that_counts(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    batch_id = record_and_cut(broker, 1)
    claim(broker, batch_id, owner="zombie", ttl_ms=500)
    clock.advance(500)
    claim(broker, batch_id, owner="second")
    assert broker.ledger.commit(batch_id, Ending(("result", "the zombie's")))
    assert not broker.ledger.commit(batch_id, Ending(("result", "the second's")))
    assert [fields for _, fields in client.xrange(broker.keys.results)] == [{b"result": b"the zombie's"}]
    check_account(broker)


@pytest.mark.parametrize("part", ["inflight", "results", "stats", "progress"])
def test_a_commit_that_cannot_be_completed_is_not_begun(
    broker: Broker, client: FakeClient, part: str
) -> None:
    batch_id = record_and_cut(broker, 1)
    client.set(getattr(broker.keys, part), "a string")
    before = snapshot(client)
    with pytest.raises(Refused, match=rf"WRONGTYPE mb:{{letters}}:{part} is a string"):
        broker.ledger.commit(batch_id, Ending(ENTRY))
    assert snapshot(client) == before


def test_a_batch_that_is_no_list_is_not_committed(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, 1)
    client.set(broker.keys.batch(batch_id), "a string")
    before = snapshot(client)
    with pytest.raises(Refused, match="WRONGTYPE"):
        broker.ledger.commit(batch_id, Ending(ENTRY))
    assert broker.ledger.claim(batch_id, owner="me", now_ms=1, due_ms=2) is None
    assert snapshot(client) == before


# bury


def test_bury_keeps_the_events_and_adds_the_failure(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    clock.advance(50)
    assert bury(broker, claimed.id, claimed.run)
    assert client.zrange(broker.keys.dead, 0, -1, withscores=True) == [(claimed.id.encode(), clock.ms)]
    assert broker.ledger.in_flight() == []
    assert values_of(broker.dead.events(claimed.id)) == [1, 2]
    header, failure = client.lrange(broker.keys.batch(claimed.id), 0, 1)
    assert (Header.decode(header), Failure.decode(failure)) == (claimed.header, FAILURE)
    assert [fields for _, fields in client.xrange(broker.keys.results)] == [
        {b"v": b"1", b"failure": FAILURE.encode().encode()}
    ]
    counters = broker.stats.counters()
    assert (counters.dead_batches, counters.dead_events) == (1, 2)
    check_account(broker)


def test_a_dead_batch_stays_dead(broker: Broker, client: FakeClient) -> None:
    claimed = claim(broker, record_and_cut(broker, 1))
    assert bury(broker, claimed.id, claimed.run)
    before = snapshot(client)
    assert not broker.ledger.commit(claimed.id, Ending(ENTRY))
    assert not bury(broker, claimed.id, claimed.run, after_ms=1)
    assert not bury(broker, claimed.id, claimed.run, failure=Failure("another", "", 1))
    assert bury(broker, claimed.id, claimed.run)  # the reply to the first call was lost
    assert snapshot(client) == before


@pytest.mark.parametrize("part", ["inflight", "dead", "results", "stats", "progress"])
def test_a_burial_that_cannot_be_completed_is_not_begun(
    broker: Broker, client: FakeClient, part: str
) -> None:
    claimed = claim(broker, record_and_cut(broker, 1))
    client.set(getattr(broker.keys, part), "a string")
    before = snapshot(client)
    with pytest.raises(Refused, match=rf"WRONGTYPE mb:{{letters}}:{part} is a string"):
        bury(broker, claimed.id, claimed.run)
    assert snapshot(client) == before


def test_a_batch_in_flight_has_no_dead_events(broker: Broker) -> None:
    assert broker.dead.events(record_and_cut(broker, 1)) == []
    assert broker.dead.events("never-cut") == []


def test_those_who_wait_for_an_end_are_told(broker: Broker, client: FakeClient) -> None:
    batch_id, other = record_and_cut(broker, 1), record_and_cut(broker, 2)
    broker.progress().open()
    broker.ledger.commit(batch_id)
    assert client.xrevrange(broker.keys.progress, count=1)[0][1] == {b"done": batch_id.encode()}
    bury(broker, other, claim(broker, other).run)
    assert client.xrevrange(broker.keys.progress, count=1)[0][1] == {b"dead": other.encode()}
