"""What holds a batcher back, an outage or `max_in_flight`, and what ends that at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import Fleet
from tests.servers import RealServer
from tests.times import hurry
from tests.waiting import wait_until

AWAY = """\
def process(batch):
    if Path("away").exists():
        raise ConnectionRefusedError("the database is away")
    if "bad" in batch:
        raise ValueError("a bad event")
    note("done", " ".join(map(str, batch)))
"""
SLOW_FIRST = """\
def process(batch):
    note("runs", f"{batch[0]} {os.getpid()}")
    if batch[0] == "first" and len(Path("runs").read_text().splitlines()) == 1:
        wait_for("never")
    time.sleep(0.02)
"""


def done(fleet: Fleet) -> int:
    return fleet.broker.stats.counters().done_events


@pytest.mark.leaves("dead", "batch", "results")
def test_an_outage_kills_nothing_and_is_told_in_few_lines(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, AWAY, max_size=5, retry_delay=0.05, max_retries=1) as fleet:
        fleet.let("away")
        batcher = fleet.batcher()
        active, worker = fleet.scheduler_process(), fleet.worker()
        batcher.record_events(range(100))
        batcher.record_event("bad")
        wait_until(lambda: "ConnectionRefusedError" in fleet.broker.held_back(), message=fleet.state)
        batcher.record_events(range(100, 200))  # they wait, and are not cut
        wait_until(lambda: "probe in" in fleet.broker.held_back(), message=fleet.state)
        assert fleet.broker.events.waiting() >= 100
        (tmp_path / "away").unlink()
        wait_until(lambda: done(fleet) == 200, 60, fleet.state)
        wait_until(lambda: fleet.broker.dead.count() == 1, 60, fleet.state)
        (dead,) = fleet.broker.dead
        assert (dead.failure.error, dead.header.size) == ("ValueError: a bad event", 1)
        assert sorted(int(n) for line in fleet.noted("done") for n in line.split()) == list(range(200))
        assert fleet.broker.held_back() == ""
        told = [line for line in active.lines if "held back" in line]
        assert ["no longer" in line for line in told] == [False, True]
        assert len([line for line in worker.lines if "ConnectionRefusedError" in line]) < 5


def test_no_more_batches_have_a_job_than_max_in_flight(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, max_size=10, max_in_flight=20, max_waiting=1_000) as fleet:
        fleet.scheduler()
        batcher = fleet.batcher(block_when_full=0)
        batcher.record_events(range(1_000))
        wait_until(lambda: len(fleet.broker.ledger.in_flight()) == 20, message=fleet.state)
        batcher.record_events(range(200))  # as many as there is room for
        assert fleet.broker.events.waiting() == 1_000
        assert valkey_server.admin.llen("rq:queue:mb:letters") == 20
        fleet.worker()
        fleet.finish(batcher)
        assert done(fleet) == 1_200


@pytest.mark.leaves("results")
def test_room_is_noticed_at_once(
    valkey_server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, reconcile_seconds=1e6)  # only the wake-up reports the room
    with Fleet(valkey_server, tmp_path, max_size=1, max_in_flight=2, frequency=3_600_000) as fleet:
        fleet.scheduler()
        batcher = fleet.batcher()
        batcher.record_events(range(50))
        fleet.worker()
        wait_until(lambda: done(fleet) == 50, 60, fleet.state)


def test_a_retry_wakes_the_scheduler_when_it_is_due(
    valkey_server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, reconcile_seconds=1e6)
    source = """\
def process(batch):
    note("runs", batch[0])
    if len(Path("runs").read_text().splitlines()) < 11:
        raise OSError
"""
    settings = {"frequency": 3_600_000, "max_size": 1, "retry_delay": 0, "max_retries": 20}
    with Fleet(valkey_server, tmp_path, source, **settings) as fleet:
        fleet.scheduler()
        batcher = fleet.batcher()
        batcher.record_event("a")
        fleet.worker()
        fleet.wait_for_note("runs", 11, 20)
        wait_until(lambda: done(fleet) == 1, message=fleet.state)


@pytest.mark.leaves("inflight", "batch")
def test_the_batch_of_a_killed_worker_goes_before_those_that_wait(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    with Fleet(valkey_server, tmp_path, SLOW_FIRST, max_size=1) as fleet:
        batcher = fleet.batcher()
        batcher.record_event("first")
        batcher.record_events(range(300))
        fleet.scheduler()
        fleet.wait_for_cut(301)
        worker = fleet.worker()
        pid = int(fleet.wait_for_note("runs")[0].split()[1])
        os.kill(pid, signal.SIGKILL)
        assert worker.wait() != 0
        # It becomes the first of all waiting batches as soon as the scheduler sees that its worker is silent.
        admin: Any = valkey_server.admin
        (batch_id,) = admin.zrange(fleet.broker.keys.inflight, "-inf", "(0", byscore=True)
        wait_until(lambda: admin.lindex("rq:queue:mb:letters", 0) == batch_id, 15, fleet.state)
        fleet.worker()
        assert fleet.wait_for_note("runs", 2)[1].startswith("first")
