"""A snapshot: the whole state at one instant."""

from __future__ import annotations

import time

from microbatch.broker.broker import Broker
from microbatch.broker.inspect.snapshot import take_snapshot
from microbatch.broker.state.lease import holder_of
from microbatch.broker.wire.event import Event
from microbatch.broker.wire.fields import Tag
from tests.unit.conftest import MakeBroker
from tests.unit.steps import RECORDED_AT_MS, FakeClient, cut, record

SEEN_WITHIN_MS = 4_000


def test_a_batcher_that_nobody_has_used(broker: Broker) -> None:
    snapshot = take_snapshot(broker)
    assert (
        snapshot.waiting_events,
        snapshot.in_flight_batches,
        snapshot.account.in_flight,
        snapshot.unhandled,
    ) == (
        0,
        0,
        0,
        0,
    )
    assert (snapshot.oldest_waiting_ms, snapshot.oldest_in_flight_ms) == (None, None)
    assert (snapshot.active, snapshot.standbys) == (None, ())


def test_where_the_events_are(broker: Broker) -> None:
    record(broker, 1, 2, 3, 4, 5)
    cut(broker, 2)
    snapshot = take_snapshot(broker)
    assert (snapshot.waiting_events, snapshot.in_flight_batches, snapshot.account.in_flight) == (3, 1, 2)
    assert snapshot.oldest_in_flight_ms == RECORDED_AT_MS
    assert snapshot.oldest_waiting_ms == RECORDED_AT_MS + 2


def test_events_with_fields_have_an_age(broker: Broker, client: FakeClient) -> None:
    for number in range(2):
        client.rpush(broker.keys.events, Event(b"1", RECORDED_AT_MS + number, ((Tag.KEY, b"k"),)).encode())
    cut(broker, 1)
    snapshot = take_snapshot(broker)
    assert snapshot.oldest_in_flight_ms == RECORDED_AT_MS
    assert snapshot.oldest_waiting_ms == RECORDED_AT_MS + 1


def test_something_that_is_no_event_has_no_age(broker: Broker, client: FakeClient) -> None:
    client.rpush(broker.keys.events, "nonsense")
    snapshot = take_snapshot(broker)
    assert (snapshot.waiting_events, snapshot.oldest_waiting_ms) == (1, None)


def test_who_is_active_and_who_stands_by(make_broker: MakeBroker, client: FakeClient) -> None:
    broker = make_broker(lease_ttl=SEEN_WITHIN_MS / 2_000)
    now_ms = int(time.time() * 1000)
    seen = {"one:1:aa": now_ms, "two:2:bb": now_ms - 1_000, "dead:3:cc": now_ms - SEEN_WITHIN_MS - 1_000}
    client.zadd(broker.keys.schedulers, seen)
    assert take_snapshot(broker).active is None
    client.set(broker.keys.lease, "one:1:aa")
    snapshot = take_snapshot(broker)
    assert snapshot.active == holder_of("one:1:aa")
    assert snapshot.standbys == (holder_of("two:2:bb"),)
