"""What a worker gets that asks for the next job's batch: the batch, or the id of a job that is not for it."""

from __future__ import annotations

from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.state.due import running
from microbatch.broker.wire.in_flight import Claim, ClaimedBatch, Next
from microbatch.broker.wire.run_record import RunRecord
from tests.doubles import ManualClock
from tests.unit.steps import FakeClient, bury, check_account, claim, record_and_cut, snapshot, values_of

JOBS, OTHERS = "rq:queue:mb:letters", "rq:queue:mb:letters:intermediate"


def claim_next(broker: Broker, owner: str = "me") -> Next:
    now_ms = broker.clock.now_ms()
    return broker.ledger.claim_next(JOBS, OTHERS, Claim(owner, now_ms, now_ms + 500))


def ids_in(client: FakeClient, key: str) -> list[bytes]:
    found: Any = client.lrange(key, 0, -1)
    return list(found)


def test_the_first_jobs_batch_is_claimed_and_its_job_has_gone(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    first, second = record_and_cut(broker, 1, 2), record_and_cut(broker, 3)
    client.rpush(JOBS, first, second)
    claimed = claim_next(broker)
    assert isinstance(claimed, ClaimedBatch)
    assert (claimed.id, values_of(claimed.events)) == (first, [1, 2])
    assert (claimed.header.size, claimed.run) == (2, RunRecord(owner="me"))
    assert client.zscore(broker.keys.inflight, first) == running(clock.ms + 500)
    assert (ids_in(client, JOBS), ids_in(client, OTHERS)) == ([second.encode()], [])
    check_account(broker)


def test_where_no_job_waits_there_is_nothing(broker: Broker, client: FakeClient) -> None:
    record_and_cut(broker, 1)
    before = snapshot(client)
    assert claim_next(broker) is None
    assert snapshot(client) == before


def test_a_job_without_a_batch_to_run_is_one_of_the_others(broker: Broker, client: FakeClient) -> None:
    done, dead, busy = (record_and_cut(broker, number) for number in range(3))
    broker.ledger.commit(done)
    bury(broker, dead, claim(broker, dead).run)
    claim(broker, busy)
    unreadable = record_and_cut(broker, 3)
    client.lset(broker.keys.batch(unreadable), 1, "no run record")
    ids = [batch_id.encode() for batch_id in (done, dead, busy, unreadable, "f" * 32)]
    client.rpush(JOBS, *ids)
    before = snapshot(client)
    assert [claim_next(broker) for _ in ids] == ids
    assert (ids_in(client, JOBS), ids_in(client, OTHERS)) == ([], ids)
    client.rename(OTHERS, JOBS)
    assert snapshot(client) == before


@pytest.mark.parametrize("job_id", [b"", b"1", b"\xff", b"letters", b"f" * 31, b"F" * 32])
def test_an_invalid_batch_id_makes_no_key(broker: Broker, client: FakeClient, job_id: bytes) -> None:
    """Not even if there is a batch under that key."""
    batch_id = record_and_cut(broker, 1)
    client.copy(broker.keys.batch(batch_id), broker.keys.batch("").encode() + job_id)
    client.zadd(broker.keys.inflight, {job_id: 1})
    client.rpush(JOBS, job_id)
    assert claim_next(broker) == job_id
    assert ids_in(client, OTHERS) == [job_id]
    assert client.zscore(broker.keys.inflight, job_id) == 1


@pytest.mark.parametrize("key", ["inflight", "batch"])
def test_keys_of_a_wrong_type_are_left_as_they_are(broker: Broker, client: FakeClient, key: str) -> None:
    batch_id = record_and_cut(broker, 1)
    wrong = broker.keys.inflight if key == "inflight" else broker.keys.batch(batch_id)
    client.set(wrong, "a string")
    client.rpush(JOBS, batch_id)
    assert claim_next(broker) == batch_id.encode()
    assert client.get(wrong) == b"a string"


def test_a_batch_of_another_version_is_not_run(broker: Broker, client: FakeClient) -> None:
    batch_id = record_and_cut(broker, 1)
    client.lset(broker.keys.batch(batch_id), 0, '{"v":2}')
    client.rpush(JOBS, batch_id)
    assert claim_next(broker) == batch_id.encode()
