"""The results stream: each entry goes to one consumer, and to another if the first goes silent."""

from __future__ import annotations

from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.state.results import GROUP, Entry, Results
from microbatch.broker.transport.request import Request
from microbatch.broker.wire.ending import Ending
from tests.unit.steps import FakeClient, record_and_cut


@pytest.fixture
def results(broker: Broker) -> Results:
    results = broker.results()
    results.prepare()
    return results


@pytest.fixture
def other(broker: Broker) -> Results:
    return broker.results()


def commit(broker: Broker, *values: str) -> None:
    for value in values:
        broker.ledger.commit(record_and_cut(broker, 1), Ending(("result", value)))


def read(entries: list[Entry]) -> list[bytes]:
    return [entry.fields[b"result"] for entry in entries]


def test_the_group_begins_with_the_first_entry(broker: Broker) -> None:
    commit(broker, "early")
    results = broker.results()
    results.prepare()
    results.prepare()  # again, as every consumer does
    assert read(results.read(count=10)) == [b"early"]


def test_a_stream_of_a_wrong_type_is_reported(broker: Broker, client: FakeClient) -> None:
    client.set(broker.keys.results, "a string")
    with pytest.raises(Refused, match="WRONGTYPE"):
        broker.results().prepare()


def test_each_entry_goes_to_one_consumer(broker: Broker, results: Results, other: Results) -> None:
    assert results.consumer != other.consumer
    commit(broker, "a", "b", "c")
    assert read(results.read(count=2)) == [b"a", b"b"]
    assert read(other.read(count=2)) == [b"c"]
    assert results.read(count=2) == other.read(count=2) == []


def test_what_was_not_handled_is_read_again_by_its_reader(
    broker: Broker, results: Results, other: Results
) -> None:
    commit(broker, "a", "b")
    first, _ = results.read(count=10)
    results.acknowledge([first.id])
    assert read(results.read_own(count=10)) == [b"b"]
    assert other.read_own(count=10) == []


def test_what_is_handled_is_deleted(broker: Broker, results: Results, client: FakeClient) -> None:
    commit(broker, "a", "b")
    entries = results.read(count=10)
    last = broker.unhandled.last_id()
    assert last == entries[-1].id
    assert broker.unhandled.any_up_to(entries[0].id)
    results.acknowledge([entries[0].id])
    assert not broker.unhandled.any_up_to(entries[0].id)
    assert broker.unhandled.any_up_to(last)
    results.acknowledge([entries[1].id])
    results.acknowledge([entries[1].id])  # for example by two consumers
    assert client.xlen(broker.keys.results) == 0
    assert client.xpending(broker.keys.results, GROUP)["pending"] == 0
    assert broker.unhandled.last_id() == last


def test_the_entries_of_a_silent_consumer_are_taken_over(
    broker: Broker, results: Results, other: Results
) -> None:
    commit(broker, *"abcdefg")
    results.read(count=10)
    assert other.take_over(idle_ms=60_000, count=10) == []
    assert read(other.take_over(idle_ms=0, count=10)) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]
    assert results.read_own(count=10) == []


def test_no_more_than_asked_for_is_taken_over_at_a_time(
    broker: Broker, results: Results, other: Results
) -> None:
    commit(broker, *"abcdefg")
    results.read(count=10)
    assert read(other.take_over(idle_ms=0, count=3)) == [b"a", b"b", b"c"]


def test_a_consumer_takes_over_its_own_entries_too(broker: Broker, results: Results) -> None:
    """After a lost reply, the entry is pending with a consumer that has never seen it."""
    commit(broker, "a")
    results.read(count=10)
    assert read(results.take_over(idle_ms=0, count=10)) == [b"a"]


def test_keep_leaves_alone_what_was_taken_over(broker: Broker, results: Results, other: Results) -> None:
    commit(broker, "a", "b")
    ids = [entry.id for entry in results.read(count=10)]
    other.take_over(idle_ms=0, count=1)
    results.extend_claim(ids)
    assert read(other.read_own(count=10)) == [b"a"]
    assert read(results.read_own(count=10)) == [b"b"]


def test_keep_shows_that_its_reader_is_alive(broker: Broker, results: Results, client: FakeClient) -> None:
    commit(broker, "a")
    (entry,) = results.read(count=10)
    key, consumer = broker.keys.results, results.consumer
    client.xclaim(key, GROUP, consumer, 0, [entry.id], idle=50_000, justid=True)
    assert client.xpending_range(key, GROUP, "-", "+", 1)[0]["time_since_delivered"] >= 50_000
    results.extend_claim([entry.id])
    assert client.xpending_range(key, GROUP, "-", "+", 1)[0]["time_since_delivered"] < 50_000


def test_a_consumer_that_leaves_hands_back_what_it_has_in_hand(
    broker: Broker, results: Results, other: Results, client: FakeClient
) -> None:
    commit(broker, "a", "b", "c")
    first, _, _ = results.read(count=10)
    results.acknowledge([first.id])
    results.leave_group()
    assert names(broker, client) == {"handed-back"}
    assert read(other.take_over(idle_ms=60_000, count=10)) == [b"b", b"c"]
    other.leave_group()
    assert read(broker.results().take_over(idle_ms=60_000, count=10)) == [b"b", b"c"]


def test_a_consumer_with_nothing_in_hand_leaves_no_trace(
    broker: Broker, results: Results, client: FakeClient
) -> None:
    assert results.read(count=10) == []
    results.leave_group()
    assert names(broker, client) == set()


def test_another_consumer_is_told_of_handed_back_entries(
    broker: Broker, results: Results, other: Results
) -> None:
    commit(broker, "a")
    results.read(count=10)
    assert other.read(count=10) == []
    assert results.hand_back() == 1
    (hint,) = other.read(count=10)
    assert hint.is_hint
    other.acknowledge([hint.id])
    assert read(other.take_over(idle_ms=60_000, count=10)) == [b"a"]


def test_without_other_consumers_nobody_is_told(
    broker: Broker, results: Results, other: Results, client: FakeClient
) -> None:
    commit(broker, "a")
    results.read(count=10)
    assert results.hand_back() == 1
    assert client.xlen(broker.keys.results) == 1
    assert other.read(count=10) == []


def test_what_was_taken_over_meanwhile_is_not_handed_back(
    broker: Broker, results: Results, other: Results
) -> None:
    commit(broker, "a", "b")
    results.read(count=10)
    other.take_over(idle_ms=0, count=1)
    assert results.hand_back() == 1
    assert read(other.read_own(count=10)) == [b"a"]


def test_those_who_wait_for_an_end_are_told_of_what_was_handed_back(
    broker: Broker, results: Results, client: FakeClient
) -> None:
    commit(broker, "a")
    broker.progress().open()
    results.read(count=10)
    results.hand_back()
    assert [fields for _, fields in client.xrange(broker.keys.progress)] == [{b"handed_back": b"1"}]


def names(broker: Broker, client: FakeClient) -> set[str]:
    return {consumer["name"].decode() for consumer in client.xinfo_consumers(broker.keys.results, GROUP)}


def test_the_silent_are_forgotten_unless_they_have_something_in_hand(
    broker: Broker, results: Results, other: Results, client: FakeClient
) -> None:
    commit(broker, "a")
    results.read(count=10)  # then it dies
    other.read(count=10)  # then it dies as well
    taker = broker.results()
    taker.read(count=10)
    assert taker.forget_silent(idle_ms=60_000) == 0
    assert len(names(broker, client)) == 3
    assert taker.forget_silent(idle_ms=0) == 1
    assert names(broker, client) == {results.consumer, taker.consumer}
    assert read(taker.take_over(idle_ms=0, count=10)) == [b"a"]
    assert taker.forget_silent(idle_ms=0) == 1
    assert names(broker, client) == {taker.consumer}


def test_a_consumer_that_got_an_entry_meanwhile_is_not_forgotten(
    broker: Broker, results: Results, other: Results, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert other.read(count=10) == []
    perform, late = results.server._perform, list[bool]()

    def ask_and_be_late(request: Request[Any]) -> Any:
        answer = perform(request)
        if not late:
            late.append(True)
            commit(broker, "a")
            assert read(other.read(count=10)) == [b"a"]
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(results.server, "_perform", ask_and_be_late)
        assert results.forget_silent(idle_ms=0) == 0
    assert names(broker, client) == {other.consumer}
    assert read(other.read_own(count=10)) == [b"a"]


def test_a_consumer_that_was_forgotten_too_early_can_still_read(
    broker: Broker, results: Results, other: Results, client: FakeClient
) -> None:
    assert results.read(count=10) == []
    assert other.forget_silent(idle_ms=0) == 1
    commit(broker, "a")
    assert read(results.read(count=10)) == [b"a"]
    assert names(broker, client) == {results.consumer}


def test_leaving_a_stream_that_is_gone_is_nothing(results: Results, client: FakeClient) -> None:
    client.flushall()
    results.leave_group()


def test_those_who_wait_for_an_end_are_told(broker: Broker, results: Results, client: FakeClient) -> None:
    commit(broker, "a")
    broker.progress().open()
    results.acknowledge([entry.id for entry in results.read(count=10)])
    assert [fields for _, fields in client.xrange(broker.keys.progress)] == [{b"handled": b"1"}]


def test_what_is_quarantined_leaves_the_stream(broker: Broker, results: Results, client: FakeClient) -> None:
    client.xadd(broker.keys.results, {"by": "hand"})
    (entry,) = results.read(count=10)
    assert results.quarantine(entry) == broker.keys.quarantine("results")
    assert client.xlen(broker.keys.results) == 0
    assert client.xpending(broker.keys.results, GROUP)["pending"] == 0
    assert client.lrange(broker.keys.quarantine("results"), 0, -1) == [
        repr((entry.id, entry.fields)).encode()
    ]


def test_an_entry_is_quarantined_once(
    broker: Broker, results: Results, other: Results, client: FakeClient
) -> None:
    """A consumer and another one, which has taken the entry over in between, both try."""
    client.xadd(broker.keys.results, {"by": "hand"})
    (entry,) = results.read(count=10)
    other.take_over(idle_ms=0, count=10)
    assert other.quarantine(entry)
    assert results.quarantine(entry) == ""
    assert client.llen(broker.keys.quarantine("results")) == 1


def test_without_a_list_an_entry_is_quarantined_elsewhere(
    broker: Broker, results: Results, client: FakeClient
) -> None:
    """This happens after a stream of the wrong type was itself quarantined."""
    client.set(broker.keys.quarantine("results"), "a string")
    client.xadd(broker.keys.results, {"by": "hand"})
    (entry,) = results.read(count=10)
    place = results.quarantine(entry)
    assert place.startswith(broker.keys.quarantine("results:"))
    assert client.lrange(place, 0, -1) == [repr((entry.id, entry.fields)).encode()]
    assert client.get(broker.keys.quarantine("results")) == b"a string"
    assert client.xlen(broker.keys.results) == 0


def test_nothing_is_quarantined_from_what_is_no_stream(
    broker: Broker, results: Results, client: FakeClient
) -> None:
    client.set(broker.keys.results, "a string")
    with pytest.raises(Refused, match="WRONGTYPE"):
        results.quarantine(Entry("1-1", {}))
    assert not client.exists(broker.keys.quarantine("results"))
