"""The recorder's limits: ids, room, sizes."""

from __future__ import annotations

from typing import Any

import pytest

from microbatch.broker.errors import BatcherFull, ConfigError, EncodeError
from microbatch.producer.batcher import MicroBatcher
from tests.doubles import ManualClock
from tests.unit.conftest import MakeBroker
from tests.unit.steps import FakeClient, client_of, cut, values_of


def waiting(batcher: MicroBatcher) -> list[object]:
    broker = batcher._broker
    return values_of(client_of(broker).lrange(broker.keys.events, 0, -1))


def test_an_id_is_recorded_once_within_its_window(make_broker: MakeBroker, clock: ManualClock) -> None:
    broker = make_broker(dedupe_window=60)
    batcher = MicroBatcher(broker.config, broker=broker)
    for _ in range(3):
        batcher.record_event("first", id="a")
    batcher.record_event("second", id="b")
    batcher.record_event("third")
    assert waiting(batcher) == ["first", "second", "third"]
    clock.advance(59_999)
    batcher.record_event("first", id="a")
    assert len(waiting(batcher)) == 3
    clock.advance(1)
    batcher.record_event("again", id="a")
    assert waiting(batcher) == ["first", "second", "third", "again"]


def test_ids_that_come_out_of_date_together_are_forgotten_a_hundred_at_a_time(
    make_broker: MakeBroker, client: FakeClient, clock: ManualClock
) -> None:
    broker = make_broker(dedupe_window=60)
    batcher = MicroBatcher(broker.config, broker=broker)
    client.zadd(broker.keys.seen, {f"old-{number}": clock.ms + number for number in range(250)})
    clock.advance(61_000)
    left = []
    for number in range(4):
        batcher.record_event(number, id=f"new-{number}")
        left.append(len([name for name in client.zrange(broker.keys.seen, 0, -1) if name.startswith(b"old")]))
    assert left == [150, 50, 0, 0]
    batcher.record_event(9, id="new-0")
    assert waiting(batcher) == [0, 1, 2, 3]


def test_an_id_outlives_its_events_cut(make_broker: MakeBroker) -> None:
    broker = make_broker(dedupe_window=60)
    batcher = MicroBatcher(broker.config, broker=broker)
    batcher.record_event("first", id="a")
    cut(broker, 1)
    batcher.record_event("first", id="a")
    assert waiting(batcher) == []


def test_an_id_without_a_window_is_refused(make_broker: MakeBroker) -> None:
    broker = make_broker()
    with pytest.raises(ConfigError, match="dedupe_window"):
        MicroBatcher(broker.config, broker=broker).record_event(1, id="a")


@pytest.mark.parametrize("event_id", ["half a pair: \ud800", 17, b"bytes"])
def test_an_id_is_text(event_id: Any, make_broker: MakeBroker) -> None:
    broker = make_broker(dedupe_window=60)
    batcher = MicroBatcher(broker.config, broker=broker)
    with pytest.raises(EncodeError, match="an event's id is text"):
        batcher.record_event(1, id=event_id)
    assert waiting(batcher) == []


@pytest.mark.parametrize("event_id", ["", "x" * 201])
def test_an_id_has_a_length(event_id: str, make_broker: MakeBroker) -> None:
    broker = make_broker(dedupe_window=60)
    with pytest.raises(EncodeError, match="1 to 200 characters"):
        MicroBatcher(broker.config, broker=broker).record_event(1, id=event_id)


def test_no_more_events_wait_than_max_waiting(make_broker: MakeBroker) -> None:
    broker = make_broker(max_waiting=3)
    batcher = MicroBatcher(broker.config, broker=broker)
    batcher.record_events([1, 2])
    with pytest.raises(BatcherFull, match="nothing was recorded"):
        batcher.record_events([3, 4])
    batcher.record_event(3)
    with pytest.raises(BatcherFull):
        batcher.record_event(4)
    assert waiting(batcher) == [1, 2, 3]
    cut(broker, 2)
    batcher.record_event(4)
    assert waiting(batcher) == [3, 4]


def test_an_event_is_recorded_though_the_scheduler_can_not_be_told(
    make_broker: MakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker(max_size=1)
    client_of(broker).set(broker.keys.wake, "a string")
    batcher = MicroBatcher(broker.config, broker=broker)
    batcher.record_event("a")
    batcher.record_events(["b", "c"])
    assert waiting(batcher) == ["a", "b", "c"]
    assert "letters: a full batch waits for the next tick: the server at" in caplog.text


def test_a_large_event_is_refused_before_it_is_sent(make_broker: MakeBroker) -> None:
    broker = make_broker(max_event_bytes=10)
    batcher = MicroBatcher(broker.config, broker=broker)
    batcher.record_event("12345678")
    with pytest.raises(EncodeError, match="11 bytes; max_event_bytes allows 10"):
        batcher.record_event("123456789")
    assert waiting(batcher) == ["12345678"]
