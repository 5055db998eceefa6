"""The breaker: the row of failures since the last success, and when the breaker opens."""

from __future__ import annotations

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.policy.health import Health
from microbatch.broker.policy.timing import Timing
from microbatch.broker.state.breaker import OPENS_AT_BATCHES, Breaker
from microbatch.broker.wire.in_flight import halves_of, part_of
from tests.unit.steps import FakeClient, claim, record_and_cut, snapshot

KIND = "ConnectionRefusedError"


@pytest.fixture
def breaker(broker: Broker) -> Breaker:
    return broker.breaker


def succeed(broker: Broker) -> None:
    assert broker.ledger.commit(record_and_cut(broker, "good"))


def test_before_any_failure_it_is_closed(breaker: Breaker) -> None:
    assert breaker.health() == Health()
    assert not breaker.health().is_open


def test_a_failure_begins_a_row(breaker: Breaker, broker: Broker) -> None:
    succeed(broker)
    health = breaker.note_failure("a", KIND, now_ms=1_000)
    assert health == Health(done=1, batches=1, since_ms=1_000, kind=KIND)
    assert breaker.health() == health
    assert not health.is_open


def test_each_batch_counts_once_whatever_of_it_fails(breaker: Breaker) -> None:
    times = range(1_000, 1_000 + 3 * OPENS_AT_BATCHES)
    health = [breaker.note_failure("a", KIND, now_ms=now_ms) for now_ms in times][-1]
    assert (health.batches, health.since_ms, health.is_open) == (1, 1_000, False)


def test_it_opens_when_so_many_batches_failed_in_a_row(breaker: Breaker) -> None:
    found = [breaker.note_failure(str(i), KIND, now_ms=1_000 + i) for i in range(OPENS_AT_BATCHES + 2)]
    assert [health.is_open for health in found] == [False] * (OPENS_AT_BATCHES - 1) + [True] * 3
    assert found[-1].opened_ms == 1_000 + OPENS_AT_BATCHES - 1  # this does not change later
    assert breaker.health() == found[-1]


def test_it_opens_when_nothing_but_failures_came_for_so_long(breaker: Breaker) -> None:
    breaker.note_failure("a", KIND, now_ms=1_000)
    assert not breaker.note_failure("a", KIND, now_ms=1_000 + Timing.breaker_opens_after_ms - 1).is_open
    assert breaker.note_failure("a", KIND, now_ms=1_000 + Timing.breaker_opens_after_ms).is_open


def test_it_opens_when_a_probe_fails(breaker: Breaker) -> None:
    breaker.note_failure("a", KIND, now_ms=1_000)
    assert breaker.note_failure("a", KIND, now_ms=1_001, probe=True).is_open


def test_a_success_ends_the_row_and_closes_it(breaker: Breaker, broker: Broker) -> None:
    for i in range(OPENS_AT_BATCHES):
        breaker.note_failure(str(i), KIND, now_ms=1_000 + i)
    succeed(broker)
    assert breaker.health() == Health(done=1)
    health = breaker.note_failure("z", "ValueError", now_ms=2_000)
    assert health == Health(done=1, batches=1, since_ms=2_000, kind="ValueError")


def test_a_probe_of_a_row_that_a_success_has_ended_begins_a_new_one(breaker: Breaker, broker: Broker) -> None:
    breaker.note_failure("a", KIND, now_ms=1_000)
    assert broker.ledger.commit(record_and_cut(broker, 1))
    assert breaker.note_failure("a", KIND, now_ms=2_000, probe=True) == Health(1, 1, 2_000, 0, KIND)


def test_the_kind_is_that_of_the_last_error(breaker: Breaker) -> None:
    breaker.note_failure("a", KIND, now_ms=1_000)
    assert breaker.note_failure("b", "TimeoutError", now_ms=1_001).kind == "TimeoutError"
    assert breaker.health().kind == "TimeoutError"


def test_a_row_that_begins_later_than_now_begins_anew(breaker: Breaker) -> None:
    """The server's clock was set back in between."""
    breaker.note_failure("a", KIND, now_ms=9_000_000)
    health = breaker.note_failure("b", KIND, now_ms=1_000)
    assert (health.batches, health.since_ms) == (1, 1_000)


def test_a_row_of_many_batches_is_counted_up_to_a_thousand(breaker: Breaker, client: FakeClient) -> None:
    found = [breaker.note_failure(str(i), KIND, now_ms=1_000) for i in range(1_005)]
    assert [health.batches for health in found[-7:]] == [999, *[1_000] * 6]
    assert client.zcard("mb:{letters}:failing") == 1_000


def test_the_row_expires(breaker: Breaker, broker: Broker, client: FakeClient) -> None:
    breaker.note_failure("a", KIND, now_ms=1_000)
    for key in (broker.keys.failing, broker.keys.breaker):
        assert 0 < client.pttl(key) <= 86_400_000


def test_the_scheduler_is_told_once_when_it_opens(
    breaker: Breaker, broker: Broker, client: FakeClient
) -> None:
    for i in range(2 * OPENS_AT_BATCHES):
        breaker.note_failure(str(i), KIND, now_ms=1_000)
        assert client.llen(broker.keys.wake) == int(i + 1 >= OPENS_AT_BATCHES)
    assert client.lrange(broker.keys.wake, 0, -1) == [b"reconcile"]


@pytest.mark.parametrize("part", ["failing", "breaker", "stats"])
def test_a_key_of_a_wrong_type_is_refused(
    breaker: Breaker, broker: Broker, client: FakeClient, part: str
) -> None:
    client.set(getattr(broker.keys, part), "a string")
    before = snapshot(client)
    with pytest.raises(Refused, match="WRONGTYPE"):
        breaker.note_failure("a", KIND, now_ms=1_000)
    assert snapshot(client) == before


def test_wake_of_a_wrong_type_does_not_keep_it_closed(
    breaker: Breaker, broker: Broker, client: FakeClient
) -> None:
    client.set(broker.keys.wake, "a string")
    breaker.note_failure("a", KIND, now_ms=1_000)
    assert breaker.note_failure("a", KIND, now_ms=1_000, probe=True).is_open


@pytest.mark.parametrize(
    "row",
    [
        {"done": "x"},
        {"done": "0", "since": "soon", "opened": "never"},
        {"done": "0", "since": "-1"},
        {"done": "0", "since": "9" * 40, "opened": "9" * 40, "kind": b"\xff\n"},
    ],
)
def test_an_invalid_row_is_read(
    breaker: Breaker, broker: Broker, client: FakeClient, row: dict[str, bytes | str]
) -> None:
    client.hset(broker.keys.breaker, mapping=row)
    assert "\n" not in str(breaker.health())
    assert not breaker.note_failure("a", KIND, now_ms=1_000).is_open


def test_what_is_done_in_part_is_a_success(breaker: Breaker, broker: Broker) -> None:
    breaker.note_failure("a", KIND, now_ms=1_000)
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    assert broker.ledger.divide(claimed.id, claimed.run, [part_of(claimed, [1], claimed.run, due_ms=1)])
    assert breaker.health() == Health(done=1)


def test_a_division_alone_is_not_a_success(breaker: Breaker, broker: Broker) -> None:
    breaker.note_failure("a", KIND, now_ms=1_000)
    claimed = claim(broker, record_and_cut(broker, 1, 2))
    assert broker.ledger.divide(claimed.id, claimed.run, halves_of(claimed, claimed.run, due_ms=1))
    assert breaker.health().batches == 1


def test_it_is_said_in_words() -> None:
    assert str(Health(0, 1, 1, 1, KIND)) == f"1 batch failed with {KIND}, and none succeeded"
    assert (
        str(Health(0, 1_000, 1, 1, KIND)) == f"1,000 batches in a row failed with {KIND}, and none succeeded"
    )
