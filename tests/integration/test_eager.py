"""Eager cutting with real processes: no test here has a tick, or a look that is not due to a word."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from microbatch.broker.broker import Broker
from microbatch.ops.status import read_status
from microbatch.ops.views.status import render
from microbatch.producer import Config, MicroBatcher
from tests.fleet import HASTY, Fleet
from tests.servers import RealServer
from tests.times import hurry
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("results", "wake", "seen")

NO_TICK = 3_600_000
SIZES = """\
def process(batch):
    note("sizes", len(batch))
    if not Path("go").exists():
        note("busy", os.getpid())
        wait_for("go")
"""
DIES_ONCE = (
    HASTY
    + """\
def process(batch):
    note("runs", os.getpid())
    if "deadly" in batch and not Path("died").exists():
        wait_for("died")
"""
)


@pytest.fixture
def only_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler of this process looks at nothing on its own, except when it has become active."""
    hurry(monkeypatch, reconcile_seconds=1e6, maintain_seconds=1e6)


@pytest.fixture
def fleet(valkey_server: RealServer, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(valkey_server, tmp_path, SIZES, eager=True, frequency=NO_TICK) as fleet:
        yield fleet


def done(fleet: Fleet) -> int:
    return fleet.broker.stats.counters().done_events


def wait_for_done(fleet: Fleet, events: int) -> None:
    wait_until(lambda: done(fleet) == events, 60, fleet.state)


@pytest.mark.parametrize("settings", [{}, {"max_waiting": 50, "block_when_full": 10}], ids=str)
@pytest.mark.usefixtures("only_words")
def test_at_rest_each_event_is_handled_at_once(fleet: Fleet, settings: dict[str, Any]) -> None:
    fleet.let("go")
    fleet.scheduler()
    fleet.worker()
    batcher = fleet.batcher(**settings)
    for event in range(20):
        batcher.record_event(event)
        wait_for_done(fleet, event + 1)
    assert fleet.noted("sizes") == ["1"] * 20


@pytest.mark.usefixtures("only_words")
def test_each_way_of_recording_wakes_the_scheduler(fleet: Fleet) -> None:
    fleet.let("go")
    fleet.scheduler()
    fleet.worker()
    batcher = fleet.batcher(dedupe_window=60)
    batcher.record_event("a", id="a")
    wait_for_done(fleet, 1)
    batcher.record_events(["b", "c"])
    wait_for_done(fleet, 3)
    batcher.record_events(str(event) for event in range(2_500))
    wait_for_done(fleet, 2_503)
    lingering = MicroBatcher(fleet.config(), linger=5)
    lingering.record_event("d")
    wait_for_done(fleet, 2_504)
    lingering.close()


@pytest.mark.usefixtures("only_words")
def test_events_that_come_at_the_same_time_are_all_cut(fleet: Fleet) -> None:
    """Those that come between a look and its cut leave no word."""
    fleet.let("go")
    fleet.scheduler()
    fleet.worker()
    batcher = fleet.batcher()

    def record() -> None:
        for event in range(400):
            batcher.record_event(event)

    producers = [threading.Thread(target=record) for _ in range(4)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    wait_for_done(fleet, 1_600)


@pytest.mark.usefixtures("only_words")
def test_while_all_workers_are_busy_the_next_batch_grows(fleet: Fleet) -> None:
    fleet.scheduler(max_in_flight="workers")
    fleet.worker()
    batcher = fleet.batcher()
    batcher.record_event(0)
    fleet.wait_for_note("busy")
    for event in range(50):
        batcher.record_event(event)
    assert fleet.broker.events.waiting() == 50
    fleet.let("go")
    wait_for_done(fleet, 51)
    assert fleet.noted("sizes") == ["1", "50"]


def test_a_scheduler_that_is_killed_with_the_word_in_hand_loses_nothing(fleet: Fleet) -> None:
    fleet.let("go")
    fleet.worker()
    verb = ("state.fence.Fence.cut", "before")
    doomed = fleet.module("tests.roles", "scheduler", *verb, lease_ttl=0.5)
    wait_until(fleet.active_pid)
    fleet.batcher().record_event("a")
    assert doomed.wait() == -signal.SIGKILL
    assert (fleet.broker.events.waiting(), done(fleet)) == (1, 0)
    fleet.scheduler()
    wait_for_done(fleet, 1)


def test_events_that_came_before_the_first_worker_are_handled(fleet: Fleet) -> None:
    fleet.let("go")
    fleet.scheduler()
    batcher = fleet.batcher()
    for event in range(30):
        batcher.record_event(event)
    wait_until(fleet.broker.ledger.in_flight, message=fleet.state)
    fleet.worker()
    wait_for_done(fleet, 30)


def test_workers_that_join_get_batches_without_an_end_of_another(fleet: Fleet) -> None:
    fleet.scheduler(max_in_flight="workers")
    batcher = fleet.batcher()
    for event in range(30):
        batcher.record_event(event)
    fleet.worker()
    fleet.wait_for_note("busy")
    for _ in range(2):
        batcher.record_events(range(1_000))
    workers = [fleet.worker() for _ in range(2)]
    fleet.wait_for_note("busy", 1 + len(workers))
    assert fleet.broker.published_config()["max_in_flight"] == 3
    fleet.let("go")
    wait_for_done(fleet, 2_030)


def test_a_worker_that_dies_holds_up_no_other(valkey_server: RealServer, tmp_path: Path) -> None:
    settings = {"eager": True, "frequency": NO_TICK, "max_size": 1, "max_in_flight": "workers"}
    with Fleet(valkey_server, tmp_path, DIES_ONCE, **settings) as fleet:
        fleet.scheduler_process()
        fleet.worker()
        batcher = fleet.batcher()
        batcher.record_event("deadly")
        pid = int(fleet.wait_for_note("runs")[0])
        fleet.worker()
        batcher.record_events(range(20))
        wait_for_done(fleet, 20)
        os.kill(pid, signal.SIGKILL)
        fleet.let("died")
        wait_for_done(fleet, 21)


@pytest.mark.parametrize("eager_at", ["the producer", "the scheduler"])
def test_if_only_one_side_is_eager_nothing_is_lost(fleet: Fleet, eager_at: str) -> None:
    fleet.let("go")
    fleet.scheduler(frequency=100, eager=eager_at == "the scheduler")
    fleet.worker()
    batcher = fleet.batcher(eager=eager_at == "the producer")
    batcher.record_events(range(250))
    fleet.finish(batcher)
    assert done(fleet) == 250


def test_a_stop_ends_when_all_is_handled(fleet: Fleet) -> None:
    fleet.let("go")
    fleet.scheduler()
    fleet.worker()
    batcher = fleet.batcher()
    for event in range(300):
        batcher.record_event(event)
    fleet.finish(batcher)
    assert done(fleet) == 300


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"eager": False}, "cut every 3,600,000 ms and at 100 events, at most 1,000 batches with a job"),
        ({}, "cut when a worker is free, every 3,600,000 ms and at 100 events, at most 1 batch with"),
        ({"max_in_flight": "3*workers"}, "and at 100 events, at most 3 batches with a job (3*workers)"),
    ],
    ids=str,
)
def test_the_status_shows_the_bound_to_those_who_know_only_the_name(
    fleet: Fleet, settings: dict[str, Any], told: str
) -> None:
    fleet.scheduler(**settings)
    only_the_name = Broker(Config(name="letters", redis_url=fleet.config().redis_url))
    wait_until(lambda: only_the_name.published_config().get("max_in_flight"))
    console = Console(file=StringIO(), width=300)
    console.print(render(read_status(only_the_name)))
    only_the_name.close()
    assert told in console.file.getvalue()  # type: ignore[attr-defined]
