"""The waiting events, and the words that wake the scheduler."""

from __future__ import annotations

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.state.wake import Wake
from microbatch.broker.wire.event import encode_event, event_prefix
from tests.unit.steps import FakeClient, client_of


def test_record_tells_how_many_wait(broker: Broker) -> None:
    first, second = (encode_event(body, 5) for body in (b"1", b"2"))
    assert broker.events.record([first]) == 1
    assert broker.events.record([second, first]) == 3
    assert client_of(broker).lrange(broker.keys.events, 0, -1) == [first, second, first]
    assert broker.events.waiting() == 3


def test_a_common_prefix_is_given_once(broker: Broker) -> None:
    assert broker.events.record([b"1", b"22"], event_prefix(5)) == 2
    expected = [encode_event(body, 5) for body in (b"1", b"22")]
    assert client_of(broker).lrange(broker.keys.events, 0, -1) == expected


def test_what_the_server_refuses_is_not_recorded(broker: Broker, client: FakeClient) -> None:
    client.set(broker.keys.events, "a string")
    with pytest.raises(Refused, match="WRONGTYPE"):
        broker.events.record([b"x"])
    with pytest.raises(Refused, match="WRONGTYPE"):
        broker.events.record([b"x"])


def test_each_word_waits_once(broker: Broker, client: FakeClient) -> None:
    for word in (Wake.SIZE, Wake.FLUSH, Wake.SIZE, Wake.SIZE, Wake.FLUSH):
        broker.wake.tell(word)
    assert client.lrange(broker.keys.wake, 0, -1) == [b"size", b"flush"]
