"""A process that waits for results is told that no scheduler or no worker runs, and only if that is true."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from microbatch.scheduler.queue import JobQueue
from microbatch.scheduler.worker_watch import WorkerWatch
from tests.fleet import SUM, Fleet
from tests.servers import RealServer
from tests.times import hurry

SLOW = """
def process(batch):
    time.sleep(2)
    return sum(batch)
"""
NOBODY_CUTS = "letters: 2 events wait to be cut, and no scheduler is active: start `microbatch scheduler`"
NOBODY_WORKS = "letters: 1 batch is to be run, and no worker claims any: start `microbatch worker`"


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait looks after half a second without results, instead of four."""
    hurry(monkeypatch, absence_seconds=0.5, longest_wait_seconds=0.2)


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize(
    ("there", "told"),
    [
        ((), [NOBODY_CUTS]),
        (("worker",), [NOBODY_CUTS]),
        (("scheduler",), [NOBODY_WORKS]),
    ],
)
@pytest.mark.leaves(
    "events", "wake", "progress", "inflight", "batch", "results", "lease", "schedulers", "stats"
)
def test_a_missing_scheduler_or_worker_is_reported_once(
    valkey_server: RealServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    there: tuple[str, ...],
    told: list[str],
    stops: bool,
) -> None:
    with Fleet(valkey_server, tmp_path, SUM) as fleet:
        for name in there:
            getattr(fleet, name)()
        batcher = fleet.batcher()
        batcher.record_events([1, 2])
        if stops:
            batcher.stop()
        with caplog.at_level(logging.WARNING, "microbatch.producer"):
            assert not batcher.wait_for_results(3)
        assert [record.getMessage() for record in caplog.records if record.name.endswith("absence")] == told


@pytest.mark.leaves("results")
def test_nothing_is_told_while_a_batch_takes_long(
    valkey_server: RealServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Fleet(valkey_server, tmp_path, SLOW, max_size=1) as fleet:
        fleet.scheduler()
        fleet.worker()
        batcher = fleet.batcher()
        batcher.record_events([1, 2])  # the second waits for the worker
        batcher.stop()
        with caplog.at_level(logging.WARNING, "microbatch.producer"):
            assert batcher.wait_for_results(40)
        assert caplog.records == []


def test_nothing_is_told_where_nothing_waits(
    valkey_server: RealServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Fleet(valkey_server, tmp_path, SUM) as fleet:
        batcher = fleet.batcher()
        with caplog.at_level(logging.WARNING, "microbatch.producer"):
            assert not batcher.wait_for_results(3)
        assert caplog.records == []


def test_a_scheduler_tells_that_jobs_wait_and_there_is_no_worker(
    valkey_server: RealServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = "letters: 1 batch is to be run, and there is no worker: start `microbatch worker`"
    with Fleet(valkey_server, tmp_path, SUM) as fleet, caplog.at_level(logging.WARNING):
        watch = WorkerWatch("letters", JobQueue(fleet.config(), fleet.broker.server))
        fleet.scheduler()
        batcher = fleet.batcher(result_handler=len)
        watch.look()
        watch.look()
        assert caplog.messages == []  # nothing waits
        batcher.record_event(1)
        fleet.wait_for_cut(1)
        watch.look()
        assert caplog.messages == []  # a worker may be starting at this moment
        watch.look()
        watch.look()
        assert caplog.messages == [told]  # at most once a minute
        fleet.worker()
        fleet.finish(fleet.batcher(result_handler=print))
        watch.look()
        assert caplog.messages == [told]
