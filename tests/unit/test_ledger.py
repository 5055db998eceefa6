"""What happens to a batch in flight. A caller that comes second changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError, Refused
from microbatch.broker.lua import scripts
from microbatch.broker.state.claims import claim_of
from microbatch.broker.state.due import queued, retrying, running
from microbatch.broker.transport.request import call
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import DueBatch, Unreadable
from microbatch.broker.wire.run_record import Mode, RunRecord
from tests.doubles import ManualClock
from tests.unit.steps import (
    CUT_AT_MS,
    RECORDED_AT_MS,
    FakeClient,
    bury,
    check_account,
    claim,
    client_of,
    cut,
    due,
    lease_of,
    record,
    record_and_cut,
    retry,
    snapshot,
    values_of,
)


def score(broker: Broker, batch_id: str) -> float | None:
    score: float | None = client_of(broker).zscore(broker.keys.inflight, batch_id)
    return score


def run_record(broker: Broker, batch_id: str) -> RunRecord:
    return RunRecord.decode(client_of(broker).lindex(broker.keys.batch(batch_id), 1))


def enqueue_again(broker: Broker, due_ms: int) -> DueBatch:
    """Enqueue the one batch that is due again."""
    (batch,) = due(broker, broker.clock.now_ms())
    with lease_of(broker).fence() as fence:
        assert fence.enqueue_again([batch], (), due_ms=due_ms) == [batch]
    return batch


# claim


def test_a_claim_returns_the_batch_with_its_events(broker: Broker, clock: ManualClock) -> None:
    batch_id = record_and_cut(broker, 1, 2, 3)
    claimed = claim(broker, batch_id, owner="me", ttl_ms=500)
    assert claimed.id == batch_id
    assert claimed.header == Header(Trigger.SIZE, 3, CUT_AT_MS)
    assert claimed.run == run_record(broker, batch_id) == RunRecord(owner="me")
    assert claimed.run.attempt == 1
    assert values_of(claimed.events) == [1, 2, 3]
    assert claimed.recorded_at_ms == RECORDED_AT_MS
    assert score(broker, batch_id) == running(clock.ms + 500)
    check_account(broker)


def test_a_batch_whose_owner_is_alive_is_not_given_away(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    batch_id = record_and_cut(broker, 1)
    claim(broker, batch_id, ttl_ms=500)
    clock.advance(499)
    before = snapshot(client)
    assert broker.ledger.claim(batch_id, owner="other", now_ms=clock.ms, due_ms=clock.ms + 500) is None
    assert snapshot(client) == before


def test_a_batch_whose_owner_went_silent_is_given_to_another(broker: Broker, clock: ManualClock) -> None:
    batch_id = record_and_cut(broker, 1)
    claim(broker, batch_id, owner="first", ttl_ms=500)
    clock.advance(500)
    assert claim(broker, batch_id, owner="second").run == RunRecord(owner="second")


def test_a_batch_that_is_gone_or_dead_is_not_claimed(broker: Broker, client: FakeClient) -> None:
    done, dead = record_and_cut(broker, 1), record_and_cut(broker, 2)
    broker.ledger.commit(done)
    bury(broker, dead, claim(broker, dead).run)
    before = snapshot(client)
    for batch_id in (done, dead, "never-cut"):
        assert broker.ledger.claim(batch_id, owner="late", now_ms=0, due_ms=1) is None
    assert snapshot(client) == before


@pytest.mark.parametrize("run", ["", "x y", "12", "1 me", "0 0 0 0 0 me", "0 0 0 0 whole me"])
def test_a_batch_without_a_run_record_is_refused(broker: Broker, client: FakeClient, run: str) -> None:
    batch_id = record_and_cut(broker, 1)
    client.lset(broker.keys.batch(batch_id), 1, run)
    before = snapshot(client)
    with pytest.raises(Refused, match="BADRUN"):
        claim(broker, batch_id)
    assert snapshot(client) == before


def test_a_batch_of_another_version_is_not_run(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, 1)
    client.lset(broker.keys.batch(batch_id), 0, '{"v":2}')
    with pytest.raises(DecodeError, match="not of version 1"):
        claim(broker, batch_id)


# renew, retry


def test_renew_pushes_the_due_time_on(broker: Broker, clock: ManualClock) -> None:
    claimed = claim(broker, record_and_cut(broker, 1))
    assert broker.claims.renew(claim_of(claimed), due_ms=clock.ms + 9_000)
    assert score(broker, claimed.id) == running(clock.ms + 9_000)
    assert run_record(broker, claimed.id) == claimed.run


def test_retry_gives_the_batch_up_until_it_is_due(broker: Broker, clock: ManualClock) -> None:
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    then = retry(broker, claimed, due_ms=clock.ms + 3_000)
    assert then == RunRecord(runs=1, failures=1, since_ms=clock.ms)
    assert run_record(broker, claimed.id) == then
    assert score(broker, claimed.id) == retrying(clock.ms + 3_000)
    assert due(broker, clock.ms + 2_999) == []
    (waiting,) = due(broker, clock.ms + 3_000)
    assert waiting == DueBatch(claimed.id, claimed.header, then, then)
    assert broker.recovery.events(waiting, first_only=True) == claimed.events[:1]
    assert broker.recovery.events(waiting) == claimed.events
    check_account(broker)
    assert values_of(claim(broker, claimed.id, owner="again").events) == [1, 2]


@pytest.mark.parametrize("meanwhile", ["taken by another", "committed", "buried", "deleted", "struck out"])
def test_a_former_owner_of_a_batch_changes_nothing(
    broker: Broker, client: FakeClient, clock: ManualClock, meanwhile: str
) -> None:
    claimed = claim(broker, record_and_cut(broker, 1), owner="zombie")
    clock.advance(10_000)
    match meanwhile:
        case "taken by another":
            claim(broker, claimed.id, owner="other")
        case "committed":
            broker.ledger.commit(claimed.id)
        case "buried":
            bury(broker, claimed.id, claimed.run)
        case "deleted":
            client.delete(broker.keys.batch(claimed.id))
        case _:
            client.zrem(broker.keys.inflight, claimed.id)
    clock.advance(1)  # at the same moment, it would count as the same burial whose reply was lost
    before = snapshot(client)
    assert not broker.claims.renew(claim_of(claimed), due_ms=clock.ms + 1)
    assert not retry(broker, claimed, due_ms=clock.ms + 1)
    assert not bury(broker, claimed.id, claimed.run, after_ms=1)
    assert snapshot(client) == before


# what is due


def test_enqueue_again_takes_the_batch_from_its_owner(broker: Broker, clock: ManualClock) -> None:
    batch_id = record_and_cut(broker, 1)
    zombie = claim(broker, batch_id, owner="zombie")
    clock.advance(8_000)
    enqueue_again(broker, due_ms=clock.ms + 5_000)
    assert run_record(broker, batch_id) == RunRecord()
    assert score(broker, batch_id) == queued(clock.ms + 5_000)
    assert not broker.claims.renew(claim_of(zombie), due_ms=clock.ms + 9_000)
    check_account(broker)
    assert claim(broker, batch_id, owner="next").run == RunRecord(owner="next")
    assert broker.ledger.commit(batch_id)  # for example by the zombie
    check_account(broker)


def test_enqueue_again_writes_the_new_run_record(broker: Broker, clock: ManualClock) -> None:
    claimed = claim(broker, record_and_cut(broker, 1))
    clock.advance(8_000)
    (silent,) = due(broker, clock.ms)
    died = replace(silent, then=silent.run.died(clock.ms))
    with lease_of(broker).fence() as fence:
        assert fence.enqueue_again([died], (), due_ms=clock.ms + 5_000) == [died]
    assert run_record(broker, claimed.id) == RunRecord(runs=1, deaths=1, since_ms=clock.ms)
    assert claim(broker, claimed.id).run.attempt == 2


def test_a_batch_claimed_meanwhile_keeps_its_owner(broker: Broker, clock: ManualClock) -> None:
    batch_id = record_and_cut(broker, 1)
    (seen,) = due(broker, clock.ms)
    claimed = claim(broker, batch_id, owner="quick", ttl_ms=500)
    with lease_of(broker).fence() as fence:
        assert not fence.enqueue_again([seen], (), due_ms=clock.ms + 5_000)
    assert run_record(broker, batch_id) == claimed.run
    assert score(broker, batch_id) == running(clock.ms + 500)


def test_due_lists_the_batches_to_look_at_oldest_first(broker: Broker, clock: ManualClock) -> None:
    record(broker, *range(6))
    late, early, later = [cut(broker, 2, due_ms=due_ms)[0].id for due_ms in (20, 10, 30)]
    assert [batch.id for batch in due(broker, 20)] == [early, late]
    assert [batch.id for batch in due(broker, 100, 2)] == [early, late]
    assert due(broker, 9) == []
    assert later in broker.ledger.in_flight()


def test_due_reads_no_event(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, "x" * 1_000_000)
    args = (broker.keys.batch(""), "-inf", "+inf", 10)
    reply = broker.server.perform(call(scripts.DUE, [broker.keys.inflight], args))
    ((found,),) = reply
    assert found[0] == batch_id.encode()
    assert sum(len(value) for value in found[:3]) < 200


def test_a_survey_tells_what_each_batch_waits_for(broker: Broker, clock: ManualClock) -> None:
    record(broker, *range(5))
    waiting, silent, alive, again, later = (batch.id for batch in cut(broker, *[1] * 5, due_ms=clock.ms))
    claim(broker, silent, ttl_ms=0)
    claim(broker, alive, ttl_ms=1)
    assert retry(broker, claim(broker, again), due_ms=clock.ms)
    assert retry(broker, claim(broker, later), due_ms=clock.ms + 1)
    survey = broker.recovery.survey(clock.ms, retries=10, others=10)
    assert [[batch.id for batch in group] for group in (survey.silent, survey.retries, survey.queued)] == [
        [silent], [again], [waiting],
    ]  # fmt: skip
    assert (survey.with_a_job, survey.retries_due, survey.next_retry_ms) == (3, 1, clock.ms)


def test_a_survey_counts_the_retries_that_it_does_not_look_at(broker: Broker, clock: ManualClock) -> None:
    for i in range(3):
        assert retry(broker, claim(broker, record_and_cut(broker, i)), due_ms=clock.ms - 9 + i)
    survey = broker.recovery.survey(clock.ms, retries=-1, others=10)
    assert (survey.retries, survey.retries_due, survey.next_retry_ms) == ([], 3, clock.ms - 9)
    assert len(broker.recovery.survey(clock.ms, retries=2, others=0).retries) == 2


def test_the_first_retry_is_the_one_that_is_due_first(broker: Broker, clock: ManualClock) -> None:
    assert broker.recovery.first_retry() is None
    record_and_cut(broker, 0)
    claim(broker, record_and_cut(broker, 1))
    assert broker.recovery.first_retry() is None
    late, early = (claim(broker, record_and_cut(broker, i)) for i in (2, 3))
    assert retry(broker, late, due_ms=clock.ms + 90_000)
    assert retry(broker, early, due_ms=clock.ms + 80_000)
    first = broker.recovery.first_retry()
    assert first is not None
    assert first.id == early.id


# what is due too late, because the server's clock was set back


LONGEST_RETRY_MS, LONGEST_LATER_MS = 100_000, 3_600_000


def clamp(broker: Broker, limit: int = 100) -> list[str]:
    """A job or a heartbeat is due in 8 s, a retry in 100 s, and a wait that was asked for in an hour."""
    return broker.recovery.clamp(
        broker.clock.now_ms(),
        soon_ms=8_000,
        retry_ms=LONGEST_RETRY_MS,
        asked_ms=LONGEST_LATER_MS,
        limit=limit,
    )


def test_a_due_time_within_its_limit_is_left_alone(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    record(broker, 1)
    cut(broker, 1, due_ms=clock.ms + 16_000)
    owned = claim(broker, record_and_cut(broker, 2))
    assert broker.claims.renew(claim_of(owned), due_ms=clock.ms + 16_000)
    failing = claim(broker, record_and_cut(broker, 3))
    assert retry(broker, failing, due_ms=clock.ms + LONGEST_RETRY_MS + 8_000)
    put_off = claim(broker, record_and_cut(broker, 4))
    assert retry(broker, put_off, due_ms=clock.ms + LONGEST_LATER_MS + 8_000, mode=Mode.LATER)
    before = snapshot(client)
    assert clamp(broker) == []
    assert snapshot(client) == before


@pytest.mark.parametrize("ahead_ms", [1, 3_600_000, 10**12])
def test_a_due_time_beyond_its_limit_is_set_to_the_limit(
    broker: Broker, client: FakeClient, clock: ManualClock, ahead_ms: int
) -> None:
    waiting = record_and_cut(broker, 0)
    owned, failing, put_off = (claim(broker, record_and_cut(broker, i)) for i in (1, 2, 3))
    assert retry(broker, failing, due_ms=clock.ms)
    assert retry(broker, put_off, due_ms=clock.ms, mode=Mode.LATER)
    soon, much = clock.ms + 8_000, clock.ms + LONGEST_RETRY_MS
    longest = {
        waiting: (queued(soon), 8_000),
        owned.id: (running(soon), 8_000),
        failing.id: (retrying(much), 8_000),
        put_off.id: (retrying(much), LONGEST_LATER_MS - LONGEST_RETRY_MS + 8_000),
    }
    records = {batch_id: run_record(broker, batch_id) for batch_id in longest}
    for batch_id, (most, grace_ms) in longest.items():
        client.zadd(broker.keys.inflight, {batch_id: most + grace_ms + ahead_ms})
    assert sorted(clamp(broker)) == sorted(longest)
    assert {batch_id: score(broker, batch_id) for batch_id in longest} == {
        batch_id: most for batch_id, (most, _) in longest.items()
    }
    assert {batch_id: run_record(broker, batch_id) for batch_id in longest} == records
    assert broker.claims.renew(claim_of(owned), due_ms=clock.ms + 9_000)  # its owner, if alive, continues
    assert clamp(broker) == []


def test_a_batch_that_is_due_too_late_is_found_among_many_long_retries(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    for i in range(10):
        assert retry(broker, claim(broker, record_and_cut(broker, i)), due_ms=clock.ms + 50_000 + i)
    owned = claim(broker, record_and_cut(broker, "owned"))
    client.zadd(broker.keys.inflight, {owned.id: running(clock.ms + 50_005)})
    assert clamp(broker, limit=1) == [owned.id]


def test_what_is_no_batch_and_due_too_late_is_looked_at_soon(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    client.zadd(broker.keys.inflight, {"0" * 32: clock.ms + 100_000, b"\xff": clock.ms + 100_000})
    client.zadd(broker.keys.inflight, {"1" * 32: float("inf"), "2" * 32: float("-inf")})
    client.set(broker.keys.batch("0" * 32), "hostile")
    assert len(clamp(broker)) == 3
    survey = broker.recovery.survey(clock.ms + LONGEST_RETRY_MS, retries=10, others=10)
    assert len(survey.unreadable) == 4


# what is not a batch


def unreadable(broker: Broker) -> Unreadable:
    """The one unreadable batch in the ledger."""
    (found,) = broker.recovery.survey(broker.clock.now_ms(), retries=10, others=10).unreadable
    return found


def test_what_is_quarantined_twice_is_kept_twice(broker: Broker, client: FakeClient) -> None:
    batch_id = "0" * 32
    quarantined = []
    for evidence in ("first", "second", "third"):
        client.set(broker.keys.batch(batch_id), evidence)
        client.zadd(broker.keys.inflight, {batch_id: 0})
        quarantined.append(broker.recovery.quarantine(batch_id, unreadable(broker).record))
    assert quarantined[0] == broker.keys.quarantine(batch_id)
    assert [client.get(place) for place in quarantined] == [b"first", b"second", b"third"]
    assert broker.recovery.quarantine(batch_id, b"") == ""


@pytest.mark.parametrize("part", ["inflight", "dead"])
def test_nothing_is_quarantined_from_a_ledger_of_a_wrong_type(
    broker: Broker, client: FakeClient, part: str
) -> None:
    batch_id = "0" * 32
    client.set(broker.keys.batch(batch_id), "hostile")
    client.zadd(broker.keys.inflight, {batch_id: 0})
    client.zadd(broker.keys.dead, {batch_id: 0})
    client.set(getattr(broker.keys, part), "hostile")
    before = snapshot(client)
    with pytest.raises(Refused, match="WRONGTYPE"):
        broker.recovery.quarantine(batch_id, b"")
    assert snapshot(client) == before


@pytest.mark.parametrize("meanwhile", ["restored", "there again", "dead", "committed"])
def test_a_batch_that_has_changed_since_it_was_seen_is_not_quarantined(
    broker: Broker, client: FakeClient, meanwhile: str
) -> None:
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    key, record = broker.keys.batch(claimed.id), claimed.run.encode()
    seen = record.encode()
    match meanwhile:
        case "restored":
            client.lset(key, 1, "hostile")
            broker.server.do("ZADD", broker.keys.inflight, 0, claimed.id)
            seen = unreadable(broker).record
            client.lset(key, 1, record)
        case "there again":
            client.rename(key, "test:kept")
            broker.server.do("ZADD", broker.keys.inflight, 0, claimed.id)
            seen = unreadable(broker).record
            assert seen == b""
            client.rename("test:kept", key)
        case "dead":
            bury(broker, claimed.id, claimed.run)
        case _:
            broker.ledger.commit(claimed.id)
    before = snapshot(client)
    assert broker.recovery.quarantine(claimed.id, seen) == ""
    assert snapshot(client) == before
    check_account(broker)


def test_reschedule_changes_only_what_waits_for_a_worker(broker: Broker, clock: ManualClock) -> None:
    record(broker, *range(4))
    waiting, owned, again, done = (batch.id for batch in cut(broker, *[1] * 4))
    claim(broker, owned)
    assert retry(broker, claim(broker, again), due_ms=clock.ms + 1)
    broker.ledger.commit(done)
    before = score(broker, owned), score(broker, again)
    broker.recovery.reschedule(dict.fromkeys((waiting, owned, again, done), 2_000_000))
    assert score(broker, waiting) == queued(2_000_000)
    assert (score(broker, owned), score(broker, again)) == before
    assert sorted(broker.ledger.in_flight()) == sorted((waiting, owned, again))


def test_first_in_flight_skips_those_that_are_done(broker: Broker) -> None:
    ids = [record_and_cut(broker, i) for i in range(3)]
    broker.ledger.commit(ids[0])
    assert broker.ledger.first_in_flight(ids) == ids[1]
    for batch_id in ids[1:]:
        broker.ledger.commit(batch_id)
    assert broker.ledger.first_in_flight(ids) is None
