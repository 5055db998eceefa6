"""What happens to a batch in flight. Whoever comes second changes nothing."""

from __future__ import annotations

import pytest

from microbatch.broker import scripts
from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError, Refused
from microbatch.broker.in_flight import DueBatch, Unreadable
from microbatch.broker.run_record import RunRecord
from microbatch.broker.wire import Header, Trigger
from tests.doubles import ManualClock
from tests.unit.steps import (
    CUT_AT_MS,
    RECORDED_AT_MS,
    TOKEN,
    FakeClient,
    bury,
    check_account,
    client_of,
    cut,
    enqueue_nothing,
    record,
    record_and_cut,
    snapshot,
    take,
    values_of,
)


def due_at(broker: Broker, batch_id: str) -> float | None:
    score: float | None = client_of(broker).zscore(broker.keys.inflight, batch_id)
    return score


def run_record(broker: Broker, batch_id: str) -> RunRecord:
    return RunRecord.decode(client_of(broker).lindex(broker.keys.batch(batch_id), 1))


def enqueue_again(broker: Broker, due_ms: int) -> DueBatch:
    """The one batch that is due is enqueued again."""
    (batch,) = broker.ledger.due(broker.clock.now_ms(), 10).batches
    assert broker.ledger.enqueue_again(
        [batch], due_ms=due_ms, token=TOKEN, lease_ttl_ms=600_000, enqueue=enqueue_nothing
    ) == [batch]
    return batch


# take


def test_take_claims_the_batch_and_reads_it(broker: Broker, clock: ManualClock) -> None:
    batch_id = record_and_cut(broker, 1, 2, 3)
    taken = take(broker, batch_id, owner="me", ttl_ms=500)
    assert taken.id == batch_id
    assert taken.header == Header(Trigger.SIZE, 3, CUT_AT_MS)
    assert taken.run == run_record(broker, batch_id) == RunRecord(attempt=1, owner="me")
    assert values_of(taken.events) == [1, 2, 3]
    assert taken.recorded_at_ms == RECORDED_AT_MS
    assert due_at(broker, batch_id) == clock.ms + 500
    check_account(broker)


def test_a_batch_whose_owner_is_alive_is_not_given_away(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    batch_id = record_and_cut(broker, 1)
    take(broker, batch_id, ttl_ms=500)
    clock.advance(499)
    before = snapshot(client)
    assert broker.ledger.take(batch_id, owner="other", now_ms=clock.ms, due_ms=clock.ms + 500) is None
    assert snapshot(client) == before


def test_a_batch_whose_owner_went_silent_is_given_to_another(broker: Broker, clock: ManualClock) -> None:
    batch_id = record_and_cut(broker, 1)
    take(broker, batch_id, owner="first", ttl_ms=500)
    clock.advance(500)
    assert take(broker, batch_id, owner="second").run == RunRecord(attempt=2, owner="second")


def test_a_batch_that_is_gone_or_dead_is_not_taken(broker: Broker, client: FakeClient) -> None:
    done, dead = record_and_cut(broker, 1), record_and_cut(broker, 2)
    broker.ledger.commit(done, ())
    bury(broker, dead, take(broker, dead).run)
    before = snapshot(client)
    for batch_id in (done, dead, "never-cut"):
        assert broker.ledger.take(batch_id, owner="late", now_ms=0, due_ms=1) is None
    assert snapshot(client) == before


@pytest.mark.parametrize("run", ["", "x y", "12"])
def test_a_batch_without_a_run_record_is_refused(broker: Broker, client: FakeClient, run: str) -> None:
    batch_id = record_and_cut(broker, 1)
    client.lset(broker.keys.batch(batch_id), 1, run)
    before = snapshot(client)
    with pytest.raises(Refused, match="BADRUN"):
        take(broker, batch_id)
    assert snapshot(client) == before


def test_a_batch_of_another_version_is_not_run(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, 1)
    client.lset(broker.keys.batch(batch_id), 0, '{"v":2}')
    with pytest.raises(DecodeError, match="not of version 1"):
        take(broker, batch_id)


# renew, retry


def test_renew_pushes_the_due_time_on(broker: Broker, clock: ManualClock) -> None:
    taken = take(broker, record_and_cut(broker, 1))
    assert broker.ledger.renew(taken, due_ms=clock.ms + 9_000)
    assert due_at(broker, taken.id) == clock.ms + 9_000
    assert run_record(broker, taken.id) == taken.run


def test_retry_gives_the_batch_up_until_it_is_due(broker: Broker, clock: ManualClock) -> None:
    taken = take(broker, record_and_cut(broker, 1, 2))
    assert broker.ledger.retry(taken, due_ms=clock.ms + 3_000)
    assert run_record(broker, taken.id) == RunRecord(attempt=1, owner="")
    assert broker.ledger.due(clock.ms + 2_999, 10).batches == []
    (due,) = broker.ledger.due(clock.ms + 3_000, 10).batches
    assert due == DueBatch(taken.id, taken.header, RunRecord(attempt=1))
    assert broker.ledger.recorded_at_ms(due) == RECORDED_AT_MS
    check_account(broker)
    assert values_of(take(broker, taken.id, owner="again").events) == [1, 2]


@pytest.mark.parametrize("meanwhile", ["taken by another", "committed", "buried", "deleted", "struck out"])
def test_who_no_longer_owns_a_batch_changes_nothing(
    broker: Broker, client: FakeClient, clock: ManualClock, meanwhile: str
) -> None:
    taken = take(broker, record_and_cut(broker, 1), owner="zombie")
    clock.advance(10_000)
    match meanwhile:
        case "taken by another":
            take(broker, taken.id, owner="other")
        case "committed":
            broker.ledger.commit(taken.id, ())
        case "buried":
            bury(broker, taken.id, taken.run)
        case "deleted":
            client.delete(broker.keys.batch(taken.id))
        case _:
            client.zrem(broker.keys.inflight, taken.id)
    before = snapshot(client)
    assert not broker.ledger.renew(taken, due_ms=clock.ms + 1)
    assert not broker.ledger.retry(taken, due_ms=clock.ms + 1)
    assert not bury(broker, taken.id, taken.run)
    assert snapshot(client) == before


# what the scheduler looks at


def test_enqueue_again_takes_the_batch_from_its_owner(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    batch_id = record_and_cut(broker, 1)
    zombie = take(broker, batch_id, owner="zombie")
    clock.advance(8_000)
    enqueue_again(broker, due_ms=clock.ms + 5_000)
    assert run_record(broker, batch_id) == RunRecord(attempt=1, owner="")
    assert due_at(broker, batch_id) == clock.ms + 5_000
    assert not broker.ledger.renew(zombie, due_ms=clock.ms + 9_000)
    check_account(broker)
    assert take(broker, batch_id, owner="next").run == RunRecord(attempt=2, owner="next")
    assert broker.ledger.commit(batch_id, ())  # the zombie's, say
    check_account(broker)


def test_a_batch_taken_meanwhile_keeps_its_owner(broker: Broker, clock: ManualClock) -> None:
    batch_id = record_and_cut(broker, 1)
    (seen,) = broker.ledger.due(clock.ms, 10).batches
    taken = take(broker, batch_id, owner="quick", ttl_ms=500)
    assert not broker.ledger.enqueue_again(
        [seen], due_ms=clock.ms + 5_000, token=TOKEN, lease_ttl_ms=600_000, enqueue=enqueue_nothing
    )
    assert run_record(broker, batch_id) == taken.run
    assert due_at(broker, batch_id) == clock.ms + 500


def test_due_lists_what_is_to_be_looked_at_oldest_first(broker: Broker, clock: ManualClock) -> None:
    record(broker, *range(6))
    late, early, later = [cut(broker, 2, due_ms=due_ms)[0].id for due_ms in (20, 10, 30)]
    assert [batch.id for batch in broker.ledger.due(20, 10).batches] == [early, late]
    assert [batch.id for batch in broker.ledger.due(100, 2).batches] == [early, late]
    assert broker.ledger.due(9, 10).batches == []
    assert later in broker.ledger.in_flight()


def test_due_reads_no_event(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, "x" * 1_000_000)
    reply = broker.server.run(
        scripts.DUE, [broker.keys.inflight], (broker.clock.now_ms(), 10, broker.keys.batch(""))
    )
    assert reply[0][0] == batch_id.encode()
    assert sum(len(value) for value in reply[0][:3]) < 200


# what is due too late: the server's clock was set back


def clamp(broker: Broker, below: str = "+inf", limit: int = 100) -> tuple[list[str], str]:
    """What is due soon is due in 8 s; a first retry waits for 100 s at most, the others for 200 s."""
    return broker.ledger.clamp(
        broker.clock.now_ms(), soon_ms=8_000, delays_ms=[100_000, 200_000], limit=limit, below=below
    )


def test_what_is_due_as_it_may_be_is_left_alone(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    record(broker, 1)
    cut(broker, 1, due_ms=clock.ms + 16_000)
    owned = take(broker, record_and_cut(broker, 2))
    assert broker.ledger.renew(owned, due_ms=clock.ms + 16_000)
    first = take(broker, record_and_cut(broker, 3))
    assert broker.ledger.retry(first, due_ms=clock.ms + 108_000)
    fourth = take(broker, record_and_cut(broker, 4), ttl_ms=0)
    for _ in range(3):
        fourth = take(broker, fourth.id, ttl_ms=0)
    assert broker.ledger.retry(fourth, due_ms=clock.ms + 208_000)
    before = snapshot(client)
    assert clamp(broker) == ([], "+inf")
    assert snapshot(client) == before


@pytest.mark.parametrize("ahead_ms", [1, 3_600_000, float("inf")])
def test_what_is_due_too_late_is_due_as_late_as_it_may_be(
    broker: Broker, client: FakeClient, clock: ManualClock, ahead_ms: float
) -> None:
    queued, owned, first, later = (take(broker, record_and_cut(broker, i), ttl_ms=0) for i in range(4))
    assert broker.ledger.retry(first, due_ms=clock.ms)
    later = take(broker, later.id, ttl_ms=0)
    later = take(broker, later.id, ttl_ms=0)
    assert broker.ledger.retry(later, due_ms=clock.ms)
    client.lset(broker.keys.batch(queued.id), 1, RunRecord().encode())
    longest = {queued.id: 8_000, owned.id: 8_000, first.id: 100_000, later.id: 200_000}
    records = {batch_id: run_record(broker, batch_id) for batch_id in longest}
    for batch_id, most in longest.items():
        client.zadd(broker.keys.inflight, {batch_id: clock.ms + most + 8_000 + ahead_ms})
    assert sorted(clamp(broker)[0]) == sorted(longest)
    for batch_id, most in longest.items():
        assert due_at(broker, batch_id) == clock.ms + most
    assert {batch_id: run_record(broker, batch_id) for batch_id in longest} == records
    assert broker.ledger.renew(owned, due_ms=clock.ms + 9_000)  # its owner, if alive, goes on
    assert clamp(broker) == ([], "+inf")


def test_one_that_is_due_too_late_is_found_among_many_long_retries(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    retries = [take(broker, record_and_cut(broker, i)) for i in range(10)]
    for i, run in enumerate(retries):
        assert broker.ledger.retry(run, due_ms=clock.ms + 50_000 + i)
    owned = take(broker, record_and_cut(broker, "owned"))
    client.zadd(broker.keys.inflight, {owned.id: clock.ms + 50_005})
    below, brought = "+inf", []
    for _ in range(4):
        ids, below = clamp(broker, below, limit=3)
        brought += ids
    assert brought == [owned.id]
    assert below == "+inf"  # all were looked at


def test_what_is_no_batch_and_due_too_late_is_looked_at_soon(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    client.zadd(broker.keys.inflight, {"0" * 32: clock.ms + 100_000, b"\xff": clock.ms + 100_000})
    client.set(broker.keys.batch("0" * 32), "hostile")
    assert len(clamp(broker)[0]) == 2
    assert len(broker.ledger.due(clock.ms + 8_000, 10).unreadable) == 2


# what is no batch


def unreadable(broker: Broker) -> Unreadable:
    """The one that is in the ledger."""
    (found,) = broker.ledger.due(broker.clock.now_ms(), 10).unreadable
    return found


def test_what_is_put_aside_twice_is_kept_twice(broker: Broker, client: FakeClient) -> None:
    batch_id = "0" * 32
    asides = []
    for evidence in ("first", "second", "third"):
        client.set(broker.keys.batch(batch_id), evidence)
        client.zadd(broker.keys.inflight, {batch_id: 0})
        asides.append(broker.ledger.put_aside(batch_id, unreadable(broker).record))
    assert asides[0] == broker.keys.aside(batch_id)
    assert [client.get(aside) for aside in asides] == [b"first", b"second", b"third"]
    assert broker.ledger.put_aside(batch_id, b"") == ""


@pytest.mark.parametrize("part", ["inflight", "dead"])
def test_nothing_is_put_aside_where_a_ledger_is_none(broker: Broker, client: FakeClient, part: str) -> None:
    batch_id = "0" * 32
    client.set(broker.keys.batch(batch_id), "hostile")
    client.zadd(broker.keys.inflight, {batch_id: 0})
    client.zadd(broker.keys.dead, {batch_id: 0})
    client.set(getattr(broker.keys, part), "hostile")
    before = snapshot(client)
    with pytest.raises(Refused, match="WRONGTYPE"):
        broker.ledger.put_aside(batch_id, b"")
    assert snapshot(client) == before


@pytest.mark.parametrize("meanwhile", ["restored", "there again", "dead", "committed"])
def test_what_has_changed_since_it_was_seen_is_left_where_it_is(
    broker: Broker, client: FakeClient, meanwhile: str
) -> None:
    taken = take(broker, record_and_cut(broker, 1, 2))
    key, record = broker.keys.batch(taken.id), taken.run.encode()
    seen = record.encode()
    match meanwhile:
        case "restored":
            client.lset(key, 1, "hostile")
            broker.server.do("ZADD", broker.keys.inflight, 0, taken.id)
            seen = unreadable(broker).record
            client.lset(key, 1, record)
        case "there again":
            client.rename(key, "test:kept")
            broker.server.do("ZADD", broker.keys.inflight, 0, taken.id)
            seen = unreadable(broker).record
            assert seen == b""
            client.rename("test:kept", key)
        case "dead":
            bury(broker, taken.id, taken.run)
        case _:
            broker.ledger.commit(taken.id, ())
    before = snapshot(client)
    assert broker.ledger.put_aside(taken.id, seen) == ""
    assert snapshot(client) == before
    check_account(broker)


def test_postpone_never_brings_a_batch_forward_or_back(broker: Broker) -> None:
    batch_id = record_and_cut(broker, 1)
    done = record_and_cut(broker, 2)
    broker.ledger.commit(done, ())
    broker.ledger.postpone({batch_id: 2_000_000, done: 2_000_000})
    assert due_at(broker, batch_id) == 2_000_000
    broker.ledger.postpone({batch_id: 1_500_000})  # its worker has renewed meanwhile
    assert due_at(broker, batch_id) == 2_000_000
    assert broker.ledger.in_flight() == [batch_id]


def test_first_in_flight_skips_those_that_are_done(broker: Broker) -> None:
    ids = [record_and_cut(broker, i) for i in range(3)]
    broker.ledger.commit(ids[0], ())
    assert broker.ledger.first_in_flight(ids) == ids[1]
    for batch_id in ids[1:]:
        broker.ledger.commit(batch_id, ())
    assert broker.ledger.first_in_flight(ids) is None
