"""The census: everything at one instant."""

from __future__ import annotations

import time

from microbatch.broker.broker import Broker
from microbatch.broker.inspect.census import Census
from microbatch.broker.state.lease import holder_of
from tests.unit.steps import RECORDED_AT_MS, FakeClient, cut, record

SEEN_WITHIN_MS = 4_000


def census(broker: Broker) -> Census:
    return Census(broker.server, broker.keys, seen_within_ms=SEEN_WITHIN_MS)


def test_a_batcher_that_nobody_has_used(broker: Broker) -> None:
    count = census(broker).take()
    assert (count.waiting_events, count.in_flight_batches, count.in_flight_events, count.unhandled) == (
        0,
        0,
        0,
        0,
    )
    assert (count.oldest_waiting_ms, count.oldest_in_flight_ms) == (None, None)
    assert (count.active, count.standbys) == (None, ())


def test_where_the_events_are(broker: Broker) -> None:
    record(broker, 1, 2, 3, 4, 5)
    cut(broker, 2)
    count = census(broker).take()
    assert (count.waiting_events, count.in_flight_batches, count.in_flight_events) == (3, 1, 2)
    assert count.oldest_in_flight_ms == RECORDED_AT_MS
    assert count.oldest_waiting_ms == RECORDED_AT_MS + 2


def test_something_that_is_no_event_has_no_age(broker: Broker, client: FakeClient) -> None:
    client.rpush(broker.keys.events, "nonsense")
    count = census(broker).take()
    assert (count.waiting_events, count.oldest_waiting_ms) == (1, None)


def test_who_is_active_and_who_stands_by(broker: Broker, client: FakeClient) -> None:
    now_ms = int(time.time() * 1000)
    seen = {"one:1:aa": now_ms, "two:2:bb": now_ms - 1_000, "dead:3:cc": now_ms - SEEN_WITHIN_MS - 1_000}
    client.zadd(broker.keys.schedulers, seen)
    assert census(broker).take().active is None
    client.set(broker.keys.lease, "one:1:aa")
    count = census(broker).take()
    assert count.active == holder_of("one:1:aa")
    assert count.standbys == (holder_of("two:2:bb"),)
