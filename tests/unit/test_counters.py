"""A counter that is not a number: the change that would count there is refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.inspect.quarantine import quarantine_keys
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.in_flight import new_batch, part_of
from tests.unit.steps import (
    CUT_AT_MS,
    TOKEN,
    FakeClient,
    bury,
    check_account,
    claim,
    lease_of,
    record,
    record_and_cut,
    snapshot,
)


def cutting(broker: Broker) -> Callable[[], object]:
    record(broker, 1, 2)
    broker.server.do("SET", broker.keys.lease, TOKEN)
    batch = new_batch(Header(Trigger.SIZE, 2, CUT_AT_MS))

    def cut() -> list[int]:
        with lease_of(broker).fence() as fence:
            return fence.cut([batch], (), due_ms=1).sizes

    return cut


def committing(broker: Broker) -> Callable[[], object]:
    batch_id = record_and_cut(broker, 1, 2)
    return lambda: broker.ledger.commit(batch_id, Ending(("result", "3")))


def burying(broker: Broker) -> Callable[[], object]:
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    return lambda: bury(broker, claimed.id, claimed.run)


def dividing(broker: Broker) -> Callable[[], object]:
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    parts = [part_of(claimed, [position], claimed.run, due_ms=1) for position in (0, 1)]
    return lambda: broker.ledger.divide(claimed.id, claimed.run, parts)


def dividing_what_is_half_done(broker: Broker) -> Callable[[], object]:
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    parts = [part_of(claimed, [1], claimed.run, due_ms=1)]
    return lambda: broker.ledger.divide(claimed.id, claimed.run, parts, Ending(("result", "1")))


def one_dead(broker: Broker) -> str:
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    assert bury(broker, claimed.id, claimed.run)
    return claimed.id


def replaying(broker: Broker) -> Callable[[], object]:
    batch_id = one_dead(broker)
    return lambda: broker.dead.replay(batch_id)


def purging(broker: Broker) -> Callable[[], object]:
    batch_id = one_dead(broker)
    return lambda: broker.dead.purge(batch_id)


def reviving(broker: Broker) -> Callable[[], object]:
    batch_id, now_ms = one_dead(broker), broker.clock.now_ms()
    return lambda: broker.dead.requeue(batch_id, due_ms=now_ms, died_before_ms=now_ms + 1)


COUNTING = [
    (cutting, "cut_batches"), (cutting, "cut_events"),
    (committing, "done_batches"), (committing, "done_events"),
    (burying, "dead_batches"), (burying, "dead_events"),
    (dividing, "cut_batches"), (dividing, "divided_batches"),
    (dividing_what_is_half_done, "done_batches"), (dividing_what_is_half_done, "done_events"),
    (replaying, "replayed_batches"), (replaying, "replayed_events"),
    (purging, "purged_batches"), (purging, "purged_events"),
    (reviving, "revived_batches"), (reviving, "revived_events"),
]  # fmt: skip


@pytest.mark.parametrize("value", ["many", "007", "9" * 19])
@pytest.mark.parametrize(("prepare", "field"), COUNTING)
def test_what_cannot_be_counted_is_not_done(
    broker: Broker,
    client: FakeClient,
    prepare: Callable[[Broker], Callable[[], object]],
    field: str,
    value: str,
) -> None:
    act = prepare(broker)
    kept = client.hget(broker.keys.stats, field)
    client.hset(broker.keys.stats, field, value)
    before = snapshot(client)
    for _ in range(2):
        with pytest.raises(Refused, match=r"BADCOUNT .*:stats holds a counter that is no number"):
            act()
    assert snapshot(client) == before
    assert len(quarantine_keys(broker.server, broker.keys)) == 1
    if kept is not None:
        client.hset(broker.keys.stats, field, kept)  # `verify --repair` does this
    assert act()
    check_account(broker)


@pytest.mark.parametrize("value", ["0", "12", "9" * 17])
def test_a_number_is_left_alone(broker: Broker, client: FakeClient, value: str) -> None:
    client.hset(broker.keys.stats, "done_events", value)
    assert quarantine_keys(broker.server, broker.keys) == []
    assert broker.ledger.commit(record_and_cut(broker, 1))
    assert int(client.hget(broker.keys.stats, "done_events")) == int(value) + 1
