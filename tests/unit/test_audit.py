"""The audit: it finds what disagrees, and repairs it."""

from __future__ import annotations

from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.inspect import tally
from microbatch.broker.inspect.audit import Audit
from microbatch.broker.lua import scripts
from microbatch.broker.policy.timing import Timing
from microbatch.broker.transport.request import Request
from tests.doubles import ManualClock
from tests.unit.steps import FakeClient, check_account, claim, due, record, record_and_cut, retry
from tests.unit.test_dead import bury


def found(broker: Broker) -> dict[str, str]:
    return {finding.key: finding.what for finding in Audit(broker).findings()}


def repair(broker: Broker) -> list[str]:
    return [finding.repair() for finding in Audit(broker).findings() if finding.repair is not None]


@pytest.fixture
def busy(broker: Broker) -> Broker:
    """A batcher with events in every state."""
    record_and_cut(broker, 1, 2)
    claimed = claim(broker, record_and_cut(broker, 3), owner="somebody")
    assert broker.ledger.commit(claimed.id)
    bury(broker, 4, 5)
    record(broker, 6)
    return broker


def test_nothing_is_found_where_all_is_well(busy: Broker) -> None:
    assert found(busy) == {}


def test_counters_that_are_off(busy: Broker, client: FakeClient) -> None:
    client.hincrby(busy.keys.stats, "done_events", 2)
    assert found(busy) == {busy.keys.stats: "5 events were cut, but in flight, done and dead make 7"}
    assert repair(busy) == ["cut_events counted on by +2"]
    assert found(busy) == {}


@pytest.mark.parametrize("page", [1, 2, 3, 5])
def test_what_is_counted_page_by_page_adds_up(
    busy: Broker, client: FakeClient, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(tally, "_PAGE", page)
    for number in range(3):
        bury(busy, 10 + number, 20)
        record_and_cut(busy, 30 + number)
    counted = tally.take_tally(busy.server, busy.keys)
    assert counted is not None
    assert (counted.batches, counted.events) == (4 + 4, 5 + 8)
    assert found(busy) == {}
    client.hincrby(busy.keys.stats, "done_events", 2)
    assert found(busy) == {busy.keys.stats: "14 events were cut, but in flight, done and dead make 16"}


def test_few_batches_are_counted_in_one_round_trip(busy: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a system in which batches die all the time, one of them would die between two."""
    perform, requests = busy.server._perform, list[Request[Any]]()

    def noted(request: Request[Any]) -> Any:
        requests.append(request)
        return perform(request)

    monkeypatch.setattr(busy.server, "_perform", noted)
    assert tally.take_tally(busy.server, busy.keys) is not None
    assert len(requests) == 1


@pytest.mark.parametrize("times", [1, 4, 5])
def test_batches_that_move_while_they_are_counted_are_counted_again(
    busy: Broker, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A batch dies between two pages, again and again. It must not be reported as lost or doubled."""
    monkeypatch.setattr(tally, "_PAGE", 1)
    perform, firsts = busy.server._perform, list[int]()
    first_page = (
        "EVAL",
        scripts.AUDIT.text,
        2,
        busy.keys.inflight,
        busy.keys.stats,
        busy.keys.batch(""),
        0,
        1,
    )

    def perform_and_let_one_die(request: Request[Any]) -> Any:
        reply = perform(request)
        if (request.calls or {}).get(0) == first_page:
            firsts.append(len(firsts))
            if len(firsts) <= times:
                with monkeypatch.context() as undone:
                    undone.setattr(busy.server, "_perform", perform)
                    bury(busy, "another")
        return reply

    monkeypatch.setattr(busy.server, "_perform", perform_and_let_one_die)
    unsure = {busy.keys.stats: "not compared: batches changed faster than they could be counted; try again"}
    assert found(busy) == (unsure if times == 5 else {})
    assert found(busy) == {}


@pytest.mark.parametrize("value", ["many", "1e3", "", "01", "9" * 18, "9" * 5000, b"\xff"])
def test_counters_that_are_no_numbers(busy: Broker, client: FakeClient, value: str | bytes) -> None:
    client.hset(busy.keys.stats, "done_events", value)
    client.hset(busy.keys.stats, "mark_at", value)
    assert found(busy) == {busy.keys.stats: "no numbers: done_events, mark_at"}
    assert repair(busy) == []  # the active scheduler quarantines them


@pytest.mark.parametrize("ledger", ["inflight", "dead"])
def test_a_batch_with_an_event_that_cannot_be_read_is_as_it_should_be(
    busy: Broker, client: FakeClient, ledger: str
) -> None:
    (batch_id,) = client.zrange(getattr(busy.keys, ledger), 0, -1)
    client.lset(busy.keys.batch(batch_id.decode()), 2, "of another version")  # its batch died of it, or will
    assert found(busy) == {}


def test_a_batch_whose_events_are_gone(busy: Broker, client: FakeClient) -> None:
    (batch_id,) = busy.ledger.in_flight()
    client.delete(busy.keys.batch(batch_id))
    assert found(busy)[busy.keys.batch(batch_id)] == "its events are gone"
    repair(busy)
    assert found(busy) == {}
    assert busy.ledger.in_flight() == []


def test_a_batch_that_cannot_be_read_is_quarantined(busy: Broker, client: FakeClient) -> None:
    (batch_id,) = busy.ledger.in_flight()
    client.lset(busy.keys.batch(batch_id), 0, '{"v": 99}')
    assert found(busy)[busy.keys.batch(batch_id)] == "it can't be read: a batch header is not of version 1"
    repair(busy)
    assert found(busy) == {}
    assert client.llen(busy.keys.quarantine(batch_id)) == 4


def test_a_batch_that_no_ledger_knows_is_adopted(busy: Broker, client: FakeClient) -> None:
    (batch_id,) = busy.ledger.in_flight()
    client.zrem(busy.keys.inflight, batch_id)
    assert found(busy)[busy.keys.batch(batch_id)] == "no ledger knows it"
    assert repair(busy)[0] == "put in flight"
    assert found(busy) == {}
    check_account(busy)


def test_a_stray_that_is_no_batch_is_quarantined(busy: Broker, client: FakeClient) -> None:
    client.rpush(busy.keys.batch("made-up"), "x", "y", "z")
    assert found(busy) == {busy.keys.batch("made-up"): "no ledger knows it"}
    repair(busy)
    assert found(busy) == {}
    assert client.exists(busy.keys.quarantine("made-up"))


def test_batches_that_nobody_looks_at(busy: Broker, clock: ManualClock) -> None:
    clock.advance(3_600_000)
    assert "1 batches are due and nobody looks at them" in found(busy)[busy.keys.inflight]


def test_queued_batches_wait_for_their_turn_where_a_scheduler_has_many(
    broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    for number in range(100):
        record_and_cut(broker, number)
    (*_, (_, last)) = client.zrange(broker.keys.inflight, 0, -1, withscores=True)
    clock.ms = int(last) + Timing.overdue_ms + 99
    assert found(broker) == {}
    clock.advance(2)
    assert "100 batches are due and nobody looks at them" in found(broker)[broker.keys.inflight]


def test_a_batch_at_work_is_not_overdue(busy: Broker, clock: ManualClock) -> None:
    at_work = claim(busy, record_and_cut(busy, 7))
    assert found(busy) == {}
    clock.advance(Timing.overdue_ms)
    for batch in due(busy, clock.ms):
        busy.ledger.commit(batch.id)
    silent = claim(busy, record_and_cut(busy, 8), ttl_ms=0)
    assert silent.id != at_work.id
    clock.advance(Timing.overdue_ms + 1)
    assert "1 batches are due and nobody looks at them" in found(busy)[busy.keys.inflight]


def test_a_retry_is_overdue_when_nobody_looks_at_it(
    busy: Broker, client: FakeClient, clock: ManualClock
) -> None:
    for batch_id in busy.ledger.in_flight():
        busy.ledger.commit(batch_id)
    assert retry(busy, claim(busy, record_and_cut(busy, 7)), due_ms=clock.ms + 60_000)
    client.delete(busy.keys.lease)
    clock.advance(60_000)
    assert found(busy) == {}
    clock.advance(Timing.overdue_ms + 1)
    assert "1 batches are due and nobody looks at them" in found(busy)[busy.keys.inflight]


def test_keys_of_the_wrong_type_are_named(busy: Broker, client: FakeClient) -> None:
    client.delete(busy.keys.results)
    client.set(busy.keys.results, "hostile")
    assert found(busy) == {busy.keys.results: "it is a string, not a stream"}
    assert repair(busy) == []  # the active scheduler quarantines it


def test_an_invalid_id_is_quarantined(busy: Broker, client: FakeClient) -> None:
    client.zadd(busy.keys.dead, {b"\xff\nx": 1})
    assert found(busy)[busy.keys.batch("\\xff\\nx")] == "its id is none of a batch"
    repair(busy)
    assert found(busy) == {}
