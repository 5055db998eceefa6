"""Values that Microbatch has not written are quarantined, and no quarantined value overwrites another."""

from __future__ import annotations

from microbatch.broker.broker import Broker
from microbatch.broker.inspect.quarantine import quarantine_keys
from tests.unit.steps import FakeClient, snapshot


def where(line: str) -> str:
    """The key that a line names."""
    return line.rpartition(" is quarantined as ")[2]


def test_a_key_that_is_quarantined_twice_is_kept_twice(broker: Broker, client: FakeClient) -> None:
    quarantined = []
    for evidence in ("first", "second", "third"):
        client.set(broker.keys.events, evidence)
        (line,) = quarantine_keys(broker.server, broker.keys)
        assert line.startswith(f"{broker.keys.events} was no list, and is quarantined as ")
        quarantined.append(where(line))
    assert quarantined[0] == broker.keys.quarantine("events")
    assert [client.get(place) for place in quarantined] == [b"first", b"second", b"third"]
    assert not client.exists(broker.keys.events)


def test_entries_that_were_quarantined_stay_when_their_stream_is(broker: Broker, client: FakeClient) -> None:
    client.rpush(broker.keys.quarantine("results"), "an entry")
    client.set(broker.keys.results, "hostile")
    (line,) = quarantine_keys(broker.server, broker.keys)
    assert client.get(where(line)) == b"hostile"
    assert client.lrange(broker.keys.quarantine("results"), 0, -1) == [b"an entry"]


def test_counters_are_quarantined_into_one_list(broker: Broker, client: FakeClient) -> None:
    for value in ("many", "more"):
        client.hset(broker.keys.stats, "done_events", value)
        (line,) = quarantine_keys(broker.server, broker.keys)
        assert line == (
            f"{broker.keys.stats}: done_events was no number, and is quarantined as "
            f"{broker.keys.quarantine('stats')}:fields"
        )
    kept = client.lrange(broker.keys.quarantine("stats") + ":fields", 0, -1)
    assert kept == [b"done_events=many", b"done_events=more"]


def test_a_counter_is_quarantined_though_its_place_is_taken(broker: Broker, client: FakeClient) -> None:
    client.set(broker.keys.quarantine("stats") + ":fields", "hostile")
    client.hset(broker.keys.stats, "done_events", "many")
    (line,) = quarantine_keys(broker.server, broker.keys)
    assert client.lrange(where(line), 0, -1) == [b"done_events=many"]
    assert client.get(broker.keys.quarantine("stats") + ":fields") == b"hostile"
    assert not client.hexists(broker.keys.stats, "done_events")


def test_where_all_is_well_nothing_is_touched(broker: Broker, client: FakeClient) -> None:
    client.rpush(broker.keys.events, "an event")
    client.hset(broker.keys.stats, "done_events", 7)
    before = snapshot(client)
    assert quarantine_keys(broker.server, broker.keys) == []
    assert snapshot(client) == before
