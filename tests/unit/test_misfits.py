"""What stands under our keys and is none of ours: put aside, over nothing that was put aside before."""

from __future__ import annotations

from microbatch.broker.broker import Broker
from microbatch.broker.inspect.misfits import set_aside
from tests.unit.steps import FakeClient, snapshot


def where(line: str) -> str:
    """The key that a line tells."""
    return line.rpartition(" is put aside as ")[2]


def test_a_key_that_is_put_aside_twice_is_kept_twice(broker: Broker, client: FakeClient) -> None:
    asides = []
    for evidence in ("first", "second", "third"):
        client.set(broker.keys.events, evidence)
        (line,) = set_aside(broker.server, broker.keys)
        assert line.startswith(f"{broker.keys.events} was no list, and is put aside as ")
        asides.append(where(line))
    assert asides[0] == broker.keys.aside("events")
    assert [client.get(aside) for aside in asides] == [b"first", b"second", b"third"]
    assert not client.exists(broker.keys.events)


def test_entries_that_were_put_aside_stay_when_their_stream_is(broker: Broker, client: FakeClient) -> None:
    client.rpush(broker.keys.aside("results"), "an entry")
    client.set(broker.keys.results, "hostile")
    (line,) = set_aside(broker.server, broker.keys)
    assert client.get(where(line)) == b"hostile"
    assert client.lrange(broker.keys.aside("results"), 0, -1) == [b"an entry"]


def test_counters_are_put_aside_into_one_list(broker: Broker, client: FakeClient) -> None:
    for value in ("many", "more"):
        client.hset(broker.keys.stats, "done_events", value)
        (line,) = set_aside(broker.server, broker.keys)
        assert line == (
            f"{broker.keys.stats}: done_events was no number, and is put aside as "
            f"{broker.keys.aside('stats')}:fields"
        )
    kept = client.lrange(broker.keys.aside("stats") + ":fields", 0, -1)
    assert kept == [b"done_events=many", b"done_events=more"]


def test_a_counter_is_put_aside_though_its_place_is_taken(broker: Broker, client: FakeClient) -> None:
    client.set(broker.keys.aside("stats") + ":fields", "hostile")
    client.hset(broker.keys.stats, "done_events", "many")
    (line,) = set_aside(broker.server, broker.keys)
    assert client.lrange(where(line), 0, -1) == [b"done_events=many"]
    assert client.get(broker.keys.aside("stats") + ":fields") == b"hostile"
    assert not client.hexists(broker.keys.stats, "done_events")


def test_where_all_is_well_nothing_is_touched(broker: Broker, client: FakeClient) -> None:
    client.rpush(broker.keys.events, "an event")
    client.hset(broker.keys.stats, "done_events", 7)
    before = snapshot(client)
    assert set_aside(broker.server, broker.keys) == []
    assert snapshot(client) == before
