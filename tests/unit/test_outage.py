"""Outages and bad events: each is recognised, and treated as what it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from rq.timeouts import JobTimeoutException

from microbatch.broker.state.wake import Wake
from microbatch.broker.transport.connection import open_client
from microbatch.broker.wire.batch import PartialFailure, Reject, RetryLater
from tests.doubles import ManualClock
from tests.servers import RealServer
from tests.unit.conftest import MakeBroker
from tests.unit.flow import QUEUE, Flow
from tests.unit.steps import FakeClient, claim, record_and_cut, retry


class Database:
    """A database that a processor writes to. It may be away, and it rejects every event above 1,000."""

    def __init__(self) -> None:
        self.is_away = False

    def run(self, batch: list[int]) -> int:
        if self.is_away:
            raise ConnectionRefusedError("the database is away")
        if any(event > 1_000 for event in batch):
            raise ValueError("it takes no such event")
        return len(batch)


POISON = 1_001
MakeFlow = Callable[..., Flow]


@pytest.fixture
def client(valkey_server: RealServer) -> Iterator[FakeClient]:
    """A client of a real server.

    These tests run thousands of scripts, for which a fake takes ten times as long.
    """
    with open_client(valkey_server.socket_url) as client:
        yield client


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def make_flow(
    make_broker: MakeBroker, clock: ManualClock, database: Database, monkeypatch: pytest.MonkeyPatch
) -> MakeFlow:
    """Flows whose processor writes to the database. Random values are fixed at the middle of their range."""
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)

    def make(processor: Any = database.run, **settings: Any) -> Flow:
        return Flow(make_broker, clock, processor, **settings)

    return make


# an outage


def test_an_outage_leaves_all_batches_whole_and_charges_nothing(
    make_flow: MakeFlow, database: Database
) -> None:
    flow = make_flow(max_retries=3)
    database.is_away = True
    for i in range(80):  # 40 s, ten events each half second
        flow.record(*range(10 * i, 10 * i + 10))
        flow.step()
    assert flow.dead() == []
    records = flow.records()
    assert max(record.failures for record in records) <= 3
    probes = [batch for batch in flow.in_flight() if len(batch) == 1]
    assert len(probes) <= 8
    # No batch is halved. The batch that has waited longest has given its events to the probes.
    assert len([batch for batch in flow.in_flight() if 1 < len(batch) < 10]) <= 1
    assert flow.broker.events.waiting() >= 600  # nothing is cut during the outage
    runs = len(flow.runs)
    assert runs < 60
    database.is_away = False
    flow.finish(60)
    assert (flow.done(), flow.dead()) == (800, [])


def test_an_outage_is_noticed_by_batches_that_fail_in_a_row(make_flow: MakeFlow, database: Database) -> None:
    flow = make_flow()
    database.is_away = True
    flow.record(*range(100))
    flow.step()
    health = flow.broker.breaker.health()
    assert health.is_open
    assert (health.batches, health.kind) == (10, "ConnectionRefusedError")
    flow.step()
    assert flow.broker.held_back().startswith(
        "10 batches in a row failed with ConnectionRefusedError, and none succeeded; next probe in"
    )


def test_while_it_lasts_single_events_are_tried_ever_more_rarely(
    make_flow: MakeFlow, database: Database, clock: ManualClock
) -> None:
    flow = make_flow()
    database.is_away = True
    flow.record(*range(100))
    flow.step()
    flow.runs.clear()
    times = [clock.ms for _ in range(200) if flow.step(1_000)]
    assert {len(batch) for batch in flow.runs} == {1}
    assert len(flow.runs) == len(times)
    waits = [round((after - before) / 1000) for before, after in pairwise(times)]
    assert waits[:5] == [2, 4, 8, 16, 30]
    assert set(waits[5:]) == {30}


def test_when_it_is_over_all_is_done_within_a_minute(make_flow: MakeFlow, database: Database) -> None:
    flow = make_flow()
    database.is_away = True
    flow.record(*range(300))
    flow.steps(600, by_ms=1_000)
    database.is_away = False
    flow.finish(60)
    assert (flow.done(), flow.dead()) == (300, [])
    assert flow.broker.held_back() == ""


def test_after_an_outage_batches_come_back_ever_more_at_once(make_flow: MakeFlow, database: Database) -> None:
    flow = make_flow()
    database.is_away = True
    flow.record(*range(1_000))
    flow.steps(10)
    database.is_away = False
    jobs = []
    while flow.broker.events.waiting() or flow.broker.ledger.in_flight():
        jobs.append(flow.step())
    ramp = [count for count in jobs if count]
    assert ramp[:3] == [1, 2, 4]
    assert all(count <= 2**i for i, count in enumerate(ramp))
    assert max(ramp) > 8


def test_an_outage_while_nothing_else_goes_on_leaves_a_batch_alive(
    make_flow: MakeFlow, database: Database
) -> None:
    """One batch of several events fails.

    One of its events, run alone, shows that the batch is not the cause.
    """
    flow = make_flow(max_retries=1)
    database.is_away = True
    flow.record(1, 2, 3)
    flow.steps(60)
    assert flow.broker.breaker.health().is_open
    assert flow.dead() == []
    database.is_away = False
    flow.finish(40)
    assert (flow.done(), flow.dead()) == (3, [])


def test_a_processor_that_always_fails_is_held_back(make_flow: MakeFlow) -> None:
    def bug(batch: list[int]) -> None:
        raise NameError("a bug")

    flow = make_flow(bug)
    for i in range(60):
        flow.record(*range(10 * i, 10 * i + 10))
        flow.step()
    assert flow.dead() == []
    assert len(flow.runs) < 40
    assert "failed with NameError" in flow.broker.held_back()


def test_a_new_leader_knows_of_the_outage_before_it_cuts(make_flow: MakeFlow, database: Database) -> None:
    flow = make_flow()
    database.is_away = True
    flow.record(*range(100))
    flow.step()
    flow.record(*range(100))
    flow.broker.server.do("DEL", flow.broker.keys.lease)
    flow.scheduler = flow.make_scheduler()
    flow.step()
    assert flow.broker.events.waiting() == 100


# a bad event


def test_a_bad_event_in_a_healthy_flow_dies_alone(make_flow: MakeFlow) -> None:
    flow = make_flow(max_size=1_000, max_retries=1)
    flow.record(*range(500), POISON, *range(501, 1_000))
    while flow.broker.ledger.in_flight() or not flow.runs:
        flow.record(1)
        flow.step()
    assert flow.dead() == [("ValueError: it takes no such event", [POISON])]
    assert len([batch for batch in flow.runs if POISON in batch]) <= 2 + 11
    assert not flow.broker.breaker.health().is_open


def test_a_bad_event_while_nothing_else_goes_on_dies_alone(make_flow: MakeFlow) -> None:
    flow = make_flow(max_size=1_000, max_retries=1)
    flow.record(*range(500), POISON, *range(501, 1_000))
    flow.finish(60)
    assert flow.dead() == [("ValueError: it takes no such event", [POISON])]
    assert flow.done() == 999
    assert len(flow.runs) <= 2 + 2 + 2 * 10 + 4  # the last event, alone, is tried a few more times


def test_a_bad_event_alone_in_its_batch_dies(make_flow: MakeFlow) -> None:
    flow = make_flow(max_retries=1)
    flow.record(POISON)
    flow.finish(60)
    assert flow.dead() == [("ValueError: it takes no such event", [POISON])]
    assert len(flow.runs) == 2


def test_a_bad_event_that_is_the_probe_dies_as_well(make_flow: MakeFlow) -> None:
    """Each probe takes another event, so a bad event is not taken for an outage for ever."""
    flow = make_flow(max_retries=1)
    flow.record(1, 2, POISON, 4, 5)  # the third event of the run after two is the probe
    flow.finish(120)
    assert flow.dead() == [("ValueError: it takes no such event", [POISON])]
    assert flow.done() == 4


@pytest.mark.parametrize("good", [1, 3])
def test_the_few_good_events_among_bad_ones_are_done(make_flow: MakeFlow, good: int) -> None:
    flow = make_flow(max_retries=1)
    flow.record(*range(2_000, 2_020 - good), *range(good))
    flow.finish(600)
    assert flow.done() == good
    assert sorted(event for _, batch in flow.dead() for event in batch) == [*range(2_000, 2_020 - good)]


def test_bad_events_in_a_row_hold_the_others_back_for_a_few_probes(
    make_flow: MakeFlow, clock: ManualClock
) -> None:
    flow = make_flow(max_retries=1)
    bad = range(2_000, 2_070)
    flow.record(*bad)  # they make seven batches
    flow.step()
    assert flow.broker.breaker.health().is_open
    began = clock.ms
    flow.record(*range(10))
    while not flow.done():
        flow.step()
    assert clock.ms - began < 5_000

    while flow.broker.stats.counters().dead_events < len(bad):
        flow.record(*range(10))
        flow.step()
    assert clock.ms - began < 60_000
    flow.finish(10)
    assert sorted(event for _, batch in flow.dead() for event in batch) == [*bad]


TOLD: dict[str, Callable[[list[int]], BaseException]] = {
    "by each event": lambda batch: PartialFailure(
        {n: ConnectionRefusedError("away") for n in range(len(batch))}
    ),
    "by texts": lambda batch: PartialFailure(dict.fromkeys(range(len(batch)), "away")),
    "by the time limit": lambda _batch: JobTimeoutException("too long"),
}


@pytest.mark.parametrize("settings", [{}, {"retry_on": (OSError,)}, {"max_retries": 3}])
@pytest.mark.parametrize("events", [100, 10])
@pytest.mark.parametrize("how", TOLD)
def test_no_event_dies_in_an_outage_however_it_is_reported(
    make_flow: MakeFlow, database: Database, how: str, events: int, settings: dict[str, Any]
) -> None:
    """In ten batches, and in one. A processor that makes a call for each event names all of them."""

    def process(batch: list[int]) -> int:
        if database.is_away:
            raise TOLD[how](batch)
        return len(batch)

    flow = make_flow(process, **{"max_retries": 1, **settings})
    database.is_away = True
    flow.record(*range(events))
    flow.steps(60)
    assert flow.broker.breaker.health().is_open
    assert flow.dead() == []
    database.is_away = False
    flow.finish(60)
    assert (flow.done(), flow.dead()) == (events, [])


def test_what_the_processor_rejects_is_no_outage(make_flow: MakeFlow) -> None:
    def process(batch: list[int]) -> None:
        raise PartialFailure({n: Reject(ValueError("bad")) for n in range(len(batch))})

    flow = make_flow(process)
    flow.record(*range(200))
    flow.finish(10)
    assert not flow.broker.breaker.health().is_open
    assert sum(len(batch) for _, batch in flow.dead()) == 200


def test_what_the_processor_puts_off_is_no_outage(make_flow: MakeFlow, clock: ManualClock) -> None:
    def process(batch: list[int]) -> None:
        raise PartialFailure({n: RetryLater(30) for n in range(len(batch))})

    flow = make_flow(process)
    flow.record(*range(100))
    flow.step()
    flow.runs.clear()
    flow.steps(28)
    assert flow.runs == []
    flow.steps(4)
    assert sum(map(len, flow.runs)) == 100
    assert not flow.broker.breaker.health().is_open


def test_a_clock_that_is_set_back_does_not_put_the_next_probe_off(
    make_flow: MakeFlow, database: Database, clock: ManualClock
) -> None:
    flow = make_flow()
    database.is_away = True
    flow.record(*range(100))
    flow.steps(20)
    database.is_away = False
    clock.advance(-600_000)
    flow.finish(60)
    assert (flow.done(), flow.dead()) == (100, [])


def test_an_outage_lasts_though_no_failure_comes_for_long(
    make_flow: MakeFlow, database: Database, client: FakeClient
) -> None:
    """Because probes hang, for example, or no worker runs."""
    flow = make_flow()
    database.is_away = True
    flow.record(*range(100))
    flow.steps(5)
    keys = (flow.broker.keys.failing, flow.broker.keys.breaker)
    for key in keys:
        client.pexpire(key, 1_000)
    flow.clock.advance(500)
    flow.schedule()
    assert min(client.pttl(key) for key in keys) > 500_000


def test_a_bad_event_during_an_outage_is_found_afterwards(make_flow: MakeFlow, database: Database) -> None:
    flow = make_flow(max_retries=1)
    database.is_away = True
    for i in range(40):
        flow.record(*range(10 * i, 10 * i + 9), POISON if i == 7 else 0)
        flow.step()
    assert flow.dead() == []
    database.is_away = False
    flow.finish(120)
    assert flow.dead() == [("ValueError: it takes no such event", [POISON])]
    assert flow.done() == 399


# out of time


def test_what_is_held_back_for_too_long_is_dead_whole(make_flow: MakeFlow, database: Database) -> None:
    flow = make_flow(retry_for=60, max_size=5)
    database.is_away = True
    flow.record(*range(50))
    flow.finish(120)
    assert {error for error, _ in flow.dead()} == {"ConnectionRefusedError: it could not be processed for 1m"}
    assert sum(len(batch) == 5 for _, batch in flow.dead()) >= 5
    assert sorted(event for _, batch in flow.dead() for event in batch) == [*range(50)]


# the log


def test_an_outage_takes_few_lines_in_the_log(
    make_flow: MakeFlow, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    flow = make_flow()
    database.is_away = True
    for i in range(70):
        flow.record(*range(10 * i, 10 * i + 10))
        flow.step()
    database.is_away = False
    flow.finish(60)
    lines = [record.getMessage() for record in caplog.records]
    held = [line for line in lines if "held back" in line]
    assert len(held) == 2
    assert "letters: held back: " in held[0]
    assert "failed with ConnectionRefusedError, and none succeeded" in held[0]
    assert "letters: no longer held back: a batch succeeded after" in held[1]
    assert len(lines) <= 4


def test_retries_that_are_due_get_the_room_as_it_is_made(make_flow: MakeFlow, client: FakeClient) -> None:
    flow = make_flow(max_in_flight=2)
    for number in range(4):
        claimed = claim(flow.broker, record_and_cut(flow.broker, number))
        assert retry(flow.broker, claimed, due_ms=flow.clock.ms)
    client.delete(flow.broker.keys.lease, flow.broker.keys.wake)
    flow.scheduler.run_once()
    assert client.llen(QUEUE) == 2
    assert flow.work() == 2
    flow.listener.wake(Wake.ROOM)
    flow.scheduler.run_once()
    assert client.llen(QUEUE) == 2
