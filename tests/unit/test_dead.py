"""Dead batches: how they are kept, replayed and purged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import BatcherFull, InDoubt, Refused
from microbatch.broker.state import dead as dead_module
from microbatch.broker.transport.request import Request
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.outcome import Outcome
from tests.doubles import ManualClock
from tests.unit.conftest import MakeBroker, MakeRunner
from tests.unit.steps import (
    FakeClient,
    account_of,
    check_account,
    claim,
    client_of,
    record,
    record_and_cut,
    snapshot,
    values_of,
)


def bury(broker: Broker, *events: object, error: str = "ValueError: no") -> str:
    claimed = claim(broker, record_and_cut(broker, *events), owner="somebody")
    failure = Failure(error, "Traceback …", claimed.run.attempt)
    entry = Outcome(claimed.id, claimed.header, 1, claimed.recorded_at_ms, failure=failure).encode()
    assert broker.ledger.bury(claimed.id, claimed.run, failure, Ending(entry), now_ms=broker.clock.now_ms())
    return claimed.id


def test_the_dead_are_listed_first_died_first(broker: Broker, clock: ManualClock) -> None:
    first = bury(broker, 1, 2, error="KeyError: 'c'")
    clock.advance(5)
    second = bury(broker, 3)
    found = list(broker.dead)
    assert [(batch.id, batch.header.size, batch.failure.error) for batch in found] == [
        (first, 2, "KeyError: 'c'"),
        (second, 1, "ValueError: no"),
    ]
    assert found[1].died_at_ms - found[0].died_at_ms == 5
    assert values_of(broker.dead.events(first)) == [1, 2]


def test_a_replayed_batch_waits_behind_the_others(broker: Broker, client: FakeClient) -> None:
    dead = bury(broker, 1, 2)
    record(broker, 3)
    assert broker.dead.replay(dead) == (2, 3)
    assert values_of(client.lrange(broker.keys.events, 0, -1)) == [3, 1, 2]
    assert broker.dead.count() == 0
    assert broker.dead.replay(dead) == (0, 3)
    check_account(broker)
    assert account_of(broker).recorded == 3


@pytest.mark.parametrize(("step", "steps"), [((4, 10**9), 3), ((100, 60), 2), ((100, 10**9), 1)])
def test_a_large_batch_is_replayed_in_steps_that_each_account_for_all(
    broker: Broker, client: FakeClient, monkeypatch: pytest.MonkeyPatch, step: tuple[int, int], steps: int
) -> None:
    monkeypatch.setattr(dead_module, "_STEP_EVENTS", step[0])
    monkeypatch.setattr(dead_module, "_STEP_BYTES", step[1])
    dead = bury(broker, *range(10, 20))
    record(broker, 3)
    left = []
    perform = broker.server._perform

    def perform_and_look(request: Request[Any]) -> Any:
        reply = perform(request)
        if request.calls:  # a step of the replay
            check_account(broker)
            left.append([(batch.id, batch.header.size) for batch in broker.dead])
        return reply

    monkeypatch.setattr(broker.server, "_perform", perform_and_look)
    assert broker.dead.replay(dead) == (10, 11)
    assert len(left) == steps
    assert left[-1] == []
    assert all(batch_id == dead for found in left for batch_id, _ in found)
    assert values_of(client.lrange(broker.keys.events, 0, -1)) == [3, *range(10, 20)]
    assert broker.stats.counters().replayed_batches == 1


def test_a_replay_that_was_interrupted_goes_on_where_it_was(
    broker: Broker, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_module, "_STEP_EVENTS", 4)
    dead = bury(broker, *range(10))
    perform, steps = broker.server._perform, list[Request[Any]]()

    def once(request: Request[Any]) -> Any:
        steps.append(request)
        if len(steps) == 2:
            raise InDoubt("the connection broke")
        return perform(request)

    monkeypatch.setattr(broker.server, "_perform", once)
    with pytest.raises(InDoubt):
        broker.dead.replay(dead)
    assert [(batch.id, batch.header.size, batch.failure.error) for batch in broker.dead] == [
        (dead, 6, "ValueError: no")
    ]
    assert values_of(broker.dead.events(dead)) == [4, 5, 6, 7, 8, 9]
    check_account(broker)
    assert broker.dead.replay(dead) == (6, 10)
    assert values_of(client.lrange(broker.keys.events, 0, -1)) == list(range(10))
    check_account(broker)


def test_a_replay_asks_for_no_room(make_broker: MakeBroker) -> None:
    broker = make_broker(max_waiting=2)
    dead = bury(broker, 1, 2)
    record(broker, 3, 4)
    assert broker.dead.replay(dead) == (2, 4)
    with pytest.raises(BatcherFull):
        record(broker, 5)
    check_account(broker)


def test_a_purged_batch_is_gone(broker: Broker, client: FakeClient) -> None:
    dead = bury(broker, 1, 2)
    assert broker.dead.purge(dead) == 2
    assert broker.dead.purge(dead) == 0
    assert not client.exists(broker.keys.batch(dead))
    check_account(broker)


def test_a_batch_in_flight_is_neither_replayed_nor_purged(broker: Broker) -> None:
    batch_id = record_and_cut(broker, 1)
    assert broker.dead.replay(batch_id) == (0, 0)
    assert broker.dead.purge(batch_id) == 0
    assert broker.ledger.in_flight() == [batch_id]


def test_a_dead_batch_that_is_requeued_runs_again(make_runner: MakeRunner, clock: ManualClock) -> None:
    repaired: list[bool] = []

    def processor(batch: list[int]) -> int:
        if not repaired:
            raise ValueError("no")
        return sum(batch)

    runner = make_runner(processor, max_retries=0)
    batch_id = record_and_cut(runner.broker, 4, 5)
    before = datetime.fromtimestamp(clock.ms / 1000, UTC)
    assert runner.run(batch_id, enqueued_at=before).is_dead
    assert runner.run(batch_id, enqueued_at=before).text.startswith("nothing to do")
    repaired.append(True)
    clock.advance(1_000)
    assert runner.run(batch_id, enqueued_at=datetime.fromtimestamp(clock.ms / 1000, UTC)).text == "done"
    check_account(runner.broker)
    assert runner.broker.dead.count() == 0
    assert [
        Outcome.decode(fields).result
        for _, fields in client_of(runner.broker).xrange(runner.broker.keys.results)
    ] == [
        None,
        b"9",
    ]


def test_nothing_is_revived_into_a_ledger_of_a_wrong_type(broker: Broker, client: FakeClient) -> None:
    dead = bury(broker, 1, 2)
    client.set(broker.keys.inflight, "hostile")
    before = snapshot(client)
    with pytest.raises(Refused, match="WRONGTYPE"):
        broker.dead.requeue(dead, due_ms=1, died_before_ms=broker.clock.now_ms() + 1)
    assert snapshot(client) == before
