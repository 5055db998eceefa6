"""The gates: how many batches may get a job, and why no more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.policy.health import Health
from microbatch.broker.state.recovery import Survey
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.in_flight import halves_of
from microbatch.scheduler.gates import Gates
from tests.doubles import ManualClock
from tests.unit.conftest import MakeBroker
from tests.unit.steps import (
    FakeClient,
    bury,
    claim,
    client_of,
    cut,
    failed,
    record,
    record_and_cut,
    retry,
)

OPEN = Health(done=7, batches=12, since_ms=1_000_000, opened_ms=1_000_000, kind="TimeoutError")
CLOSED = Health(done=8)


@pytest.fixture
def survey(broker: Broker, clock: ManualClock) -> Survey:
    """The survey of an idle batcher."""
    return broker.recovery.survey(clock.ms, retries=0, others=0)


def gates_of(make_broker: MakeBroker, **settings: Any) -> Gates:
    gates = Gates(make_broker(**settings))
    gates.reset()
    return gates


def words(broker: Broker) -> list[bytes]:
    found: list[bytes] = client_of(broker).lrange(broker.keys.wake, 0, -1)
    return found


# the breaker


def test_while_the_breaker_is_open_nothing_gets_a_job(
    make_broker: MakeBroker, survey: Survey, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    gates = gates_of(make_broker)
    gates.update(replace(survey, health=OPEN, retries_due=5), clock.ms)
    assert gates.is_open
    assert (gates.room_for_cuts(), gates.room_for_retries()) == (0, 0)
    gates.update(replace(survey, health=OPEN), clock.ms + 1)
    assert caplog.messages == [f"letters: held back: {OPEN}"]
    assert make_broker().held_back() == f"{OPEN}; next probe in 1 s"


def test_when_it_closes_batches_get_jobs_ever_more_at_once(
    make_broker: MakeBroker, survey: Survey, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    gates = gates_of(make_broker, max_in_flight=20)
    gates.update(replace(survey, health=OPEN), clock.ms)
    caplog.clear()
    rooms = []
    for _ in range(6):
        clock.advance(500)
        gates.update(replace(survey, health=CLOSED), clock.ms)
        rooms.append((gates.room_for_cuts(), gates.room_for_retries()))
    assert rooms == [(room, room) for room in (2, 4, 8, 16, 20, 20)]
    assert caplog.messages == ["letters: no longer held back: a batch succeeded after 0 s"]
    assert make_broker().held_back() == ""


def test_a_probe_is_due_after_a_second_and_then_ever_more_rarely(
    make_broker: MakeBroker, survey: Survey, clock: ManualClock
) -> None:
    gates = gates_of(make_broker)
    assert not gates.probe_is_due(clock.ms)
    gates.update(replace(survey, health=OPEN), clock.ms)
    waits = []
    for _ in range(8):
        before = clock.ms
        while not gates.probe_is_due(clock.ms):
            clock.advance(100)
        gates.probed(clock.ms)
        waits.append((clock.ms - before) / 1_000)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert make_broker().held_back().endswith("next probe in 30 s")


def test_what_waits_for_a_worker_is_the_probe(
    make_broker: MakeBroker, survey: Survey, clock: ManualClock
) -> None:
    gates = gates_of(make_broker)
    gates.update(replace(survey, health=OPEN, with_a_job=3, queued_now=3), clock.ms)
    assert not gates.probe_is_due(clock.ms + 60_000)


def test_a_probe_may_be_cut_once(make_broker: MakeBroker, survey: Survey, clock: ManualClock) -> None:
    gates = gates_of(make_broker)
    gates.update(replace(survey, health=OPEN), clock.ms)
    gates.let_a_probe_be_cut()
    assert gates.room_for_cuts() == 1
    gates.spend(1)
    assert gates.room_for_cuts() == 0


# results_max


def test_too_many_results_hold_back_cuts_and_no_retries(
    make_broker: MakeBroker, survey: Survey, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    gates = gates_of(make_broker, results_max=2)
    broker = make_broker()
    for _ in range(2):
        broker.ledger.commit(record_and_cut(broker, 1), Ending(("v", 1)))
    gates.update(replace(survey, retries_due=1), clock.ms)
    for _ in range(2):
        assert (gates.room_for_cuts(), gates.room_for_retries()) == (0, 1_000)
    assert broker.held_back() == "2 results wait for a handler; results_max is 2, and there is no consumer"
    client_of(broker).delete(broker.keys.results)
    assert gates.room_for_cuts() > 0
    assert caplog.messages == [
        "letters: held back: 2 results wait for a handler; results_max is 2, and there is no consumer",
        "letters: no longer held back",
    ]
    assert broker.held_back() == ""


# max_in_flight


def test_no_round_trip_is_made_until_the_bound_seems_reached(
    make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates, broker, asked = gates_of(make_broker, max_in_flight=5), make_broker(), []
    room = gates._broker.recovery.room

    def ask(most: int, enough: int) -> int:
        asked.append((most, enough))
        return room(most, enough)

    monkeypatch.setattr(gates._broker.recovery, "room", ask)
    rooms = []
    for _ in range(5):
        rooms.append(gates.room_for_cuts())
        record_and_cut(broker, 1)
        gates.spend(1)
    assert (rooms, asked) == ([5, 4, 3, 2, 1], [])
    assert gates.room_for_cuts() == 0
    assert asked == [(5, 4)]


def test_retries_come_before_cuts(make_broker: MakeBroker, survey: Survey, clock: ManualClock) -> None:
    gates = gates_of(make_broker, max_in_flight=5)
    gates.update(replace(survey, with_a_job=1, retries_due=3), clock.ms)
    assert (gates.room_for_retries(), gates.room_for_cuts()) == (4, 1)
    gates.update(replace(survey, with_a_job=1, retries_due=9), clock.ms)
    assert (gates.room_for_retries(), gates.room_for_cuts()) == (4, 0)


def test_what_waits_for_a_retry_takes_no_room(make_broker: MakeBroker, clock: ManualClock) -> None:
    broker = make_broker(max_in_flight=2)
    for i in range(5):
        assert retry(broker, claim(broker, record_and_cut(broker, i)), due_ms=clock.ms + 60_000)
    assert broker.recovery.room(2, 1) == 2
    assert not client_of(broker).exists(broker.keys.held)


def committed(broker: Broker, batch_id: str) -> None:
    assert broker.ledger.commit(batch_id)


def committed_by_its_worker(broker: Broker, batch_id: str) -> None:
    assert broker.ledger.commit(claim(broker, batch_id).id, Ending(("v", 1)))


def buried(broker: Broker, batch_id: str) -> None:
    assert bury(broker, batch_id, claim(broker, batch_id).run)


def divided(broker: Broker, batch_id: str) -> None:
    claimed = claim(broker, batch_id)
    parts = halves_of(claimed, failed(broker, claimed.run), due_ms=broker.clock.now_ms())
    assert broker.ledger.divide(batch_id, claimed.run, parts)


def put_off(broker: Broker, batch_id: str) -> None:
    assert retry(broker, claim(broker, batch_id), due_ms=broker.clock.now_ms() + 9_000)


ENDS = [committed, committed_by_its_worker, buried, divided, put_off]


@pytest.mark.parametrize("end", ENDS)
def test_the_scheduler_is_woken_when_few_enough_have_a_job(
    broker: Broker, end: Callable[[Broker, str], None]
) -> None:
    record(broker, *range(10))
    batches = cut(broker, *[2] * 5)
    assert broker.recovery.room(5, 3) == 0
    end(broker, batches[0].id)
    assert b"room" not in words(broker)  # four have a job: not yet
    end(broker, batches[1].id)
    assert words(broker).count(b"room") == 1
    end(broker, batches[2].id)
    assert words(broker).count(b"room") == 1  # it is told once
    assert not client_of(broker).exists(broker.keys.held)


@pytest.mark.parametrize("end", ENDS)
def test_a_scheduler_that_does_not_wait_for_room_is_not_woken(
    broker: Broker, end: Callable[[Broker, str], None]
) -> None:
    record(broker, 1, 2)
    (batch,) = cut(broker, 2)
    assert broker.recovery.room(2, 1) == 1
    end(broker, batch.id)
    assert b"room" not in words(broker)


def test_a_batch_that_ends_before_the_scheduler_asks_is_room(broker: Broker) -> None:
    """Counting and noting are one step.

    A batch that ends before is counted; one that ends after finds the note.
    """
    record(broker, 1, 2)
    first, second = cut(broker, 1, 1)
    committed(broker, first.id)
    assert broker.recovery.room(2, 1) == 1
    assert not client_of(broker).exists(broker.keys.held)
    record_and_cut(broker, 3)
    assert broker.recovery.room(2, 1) == 0
    committed(broker, second.id)
    assert words(broker) == [b"room"]


def test_the_note_expires(broker: Broker, client: FakeClient) -> None:
    record_and_cut(broker, 1)
    assert broker.recovery.room(1, 0) == 0
    assert 0 < client.pttl(broker.keys.held) <= 60_000


@pytest.mark.parametrize("value", ["x", "", "-1"])
def test_an_invalid_note_does_not_keep_a_batch_from_ending(
    broker: Broker, client: FakeClient, value: str
) -> None:
    client.set(broker.keys.held, value)
    committed(broker, record_and_cut(broker, 1))


@pytest.mark.parametrize("key", ["held", "wake"])
def test_a_hint_of_a_wrong_type_does_not_keep_a_batch_from_ending(
    broker: Broker, client: FakeClient, key: str
) -> None:
    batch_id = record_and_cut(broker, 1)
    assert broker.recovery.room(1, 0) == 0
    client.delete(getattr(broker.keys, key))
    client.hset(getattr(broker.keys, key), "no", "hint")
    committed(broker, batch_id)
    assert broker.ledger.in_flight() == []


def test_a_ledger_of_a_wrong_type_is_refused(broker: Broker, client: FakeClient) -> None:
    client.set(broker.keys.inflight, "a string")
    with pytest.raises(Refused):
        broker.recovery.room(1, 0)


def test_the_bound_is_told(make_broker: MakeBroker) -> None:
    broker = make_broker(max_in_flight=7)
    broker.publish_config()
    assert broker.published_config()["max_in_flight"] == 7


def test_a_scheduler_that_has_just_become_active_knows_nothing(
    make_broker: MakeBroker, survey: Survey, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    gates = gates_of(make_broker)
    gates.update(replace(survey, health=OPEN, with_a_job=900), clock.ms)
    gates.reset()
    assert not gates.is_open
    assert gates.room_for_cuts() == 1_000
    assert make_broker().held_back() == ""
