"""Retention: how long dead batches are kept, and how many."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from microbatch.broker.broker import Broker
from microbatch.broker.errors import Refused
from microbatch.broker.wire.in_flight import DueBatch
from microbatch.broker.wire.run_record import RunRecord
from microbatch.scheduler import retention
from microbatch.scheduler.queue import JobQueue
from microbatch.scheduler.retention import Retention
from tests.doubles import ManualClock
from tests.unit.conftest import MakeBroker
from tests.unit.steps import FAILURE, FakeClient, check_account, snapshot
from tests.unit.test_dead import bury

Make = Callable[..., Retention]


@pytest.fixture
def make(make_broker: MakeBroker) -> Make:
    def make(**settings: object) -> Retention:
        broker = make_broker(**settings)
        return Retention(broker, JobQueue(broker.config, broker.server))

    return make


def die(broker: Broker, clock: ManualClock, count: int) -> list[str]:
    """Let ``count`` batches of two events die, one each second."""
    ids = []
    for number in range(count):
        ids.append(bury(broker, number, number))
        clock.advance(1_000)
    return ids


def dead(broker: Broker) -> list[str]:
    return [batch.id for batch in broker.dead]


def test_without_a_setting_all_is_kept_and_nothing_is_sent(
    make: Make, broker: Broker, client: FakeClient, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    die(broker, clock, 3)
    clock.advance(10**12)
    before = snapshot(client)
    monkeypatch.setattr(client, "execute_command", None)
    monkeypatch.setattr(client, "connection_pool", None)
    assert make().run_once() == 0
    monkeypatch.undo()
    assert snapshot(client) == before


def test_what_is_older_than_is_kept_is_thrown_away(
    make: Make, broker: Broker, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    ids = die(broker, clock, 5)  # 5, 4, 3, 2 and 1 s ago
    kept_for_a_minute = make(keep_dead="1m")
    assert kept_for_a_minute.run_once() == 0
    clock.advance(57_000)
    with caplog.at_level(logging.INFO):
        assert kept_for_a_minute.run_once() == 2
    assert caplog.messages == ["letters: thrown away: dead batches: 2, events: 4 (keep_dead is 1m)"]
    assert dead(broker) == ids[2:]
    counters = broker.stats.counters()
    assert (counters.purged_batches, counters.purged_events) == (2, 4)
    check_account(broker)
    clock.advance(3_600_000)
    assert kept_for_a_minute.run_once() == 3
    check_account(broker)


def test_the_newest_are_kept(make: Make, broker: Broker, clock: ManualClock) -> None:
    ids = die(broker, clock, 7)
    three = make(keep_dead_max=3)
    assert three.run_once() == 4
    assert dead(broker) == ids[4:]
    assert three.run_once() == 0
    check_account(broker)


@pytest.mark.parametrize(("bounds", "left"), [((3, 5), 3), ((6, 2), 2), ((100, 100), 7), ((1, 1), 1)])
def test_both_bounds_hold(
    make: Make, broker: Broker, clock: ManualClock, bounds: tuple[int, int], left: int
) -> None:
    ids = die(broker, clock, 7)
    make(keep_dead=bounds[0], keep_dead_max=bounds[1]).run_once()
    assert dead(broker) == ids[7 - left :]
    check_account(broker)


def test_many_are_thrown_away_in_steps_and_some_later(
    make: Make, broker: Broker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_IN_ONE_SCRIPT", 2)
    monkeypatch.setattr(retention, "_IN_ONE_RUN", 4)
    ids = die(broker, clock, 9)
    two = make(keep_dead_max=2)
    assert [two.run_once(), two.run_once(), two.run_once()] == [4, 3, 0]
    assert dead(broker) == ids[7:]
    check_account(broker)


def test_rqs_failed_job_goes_with_its_batch(
    make: Make, broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    queue = JobQueue(broker.config, broker.server)
    old, new = die(broker, clock, 2)
    for batch in broker.dead:
        queue.show_as_failed(DueBatch(batch.id, batch.header, RunRecord(1), RunRecord(1)), FAILURE)
    registry = FailedJobRegistry(broker.keys.queue, connection=client, serializer=JSONSerializer)
    assert sorted(registry.get_job_ids()) == sorted([old, new])
    assert make(keep_dead_max=1).run_once() == 1
    assert registry.get_job_ids() == [new]
    assert not Job.exists(old, connection=client)
    assert [key for key in client.scan_iter("*") if old.encode() in key] == []
    assert Job.fetch(new, connection=client, serializer=JSONSerializer).is_failed


def test_what_stands_in_a_dead_batchs_place_is_thrown_away_as_well(
    make: Make, broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    old, new = die(broker, clock, 2)
    client.set(broker.keys.batch(old), "hostile")
    assert make(keep_dead_max=1).run_once() == 1
    assert dead(broker) == [new]
    assert not client.exists(broker.keys.batch(old))


def test_what_cannot_be_counted_is_not_thrown_away(
    make: Make, broker: Broker, client: FakeClient, clock: ManualClock
) -> None:
    die(broker, clock, 2)
    client.hset(broker.keys.stats, "purged_events", "many")
    before = snapshot(client)
    with pytest.raises(Refused, match="BADCOUNT"):
        make(keep_dead_max=1).run_once()
    assert snapshot(client) == before
