"""Worker processes that are killed, stalled or stuck. Their batches run again, and each result comes once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from microbatch.producer import BatchFailure, BatchInfo
from tests.fleet import HASTY, HELD, Fleet
from tests.processes import end_process, is_alive
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.waiting import wait_until

HANGS_ONCE = """
def process(batch, info: BatchInfo):
    note("runs", info.attempt)
    if info.attempt == 1:
        time.sleep(600)
    return batch
"""

HANGS_STUBBORNLY = """
hurry_for_good(overrun_seconds=0.5)

def process(batch, info: BatchInfo):
    note("runs", info.attempt)
    while info.attempt == 1:
        try:
            time.sleep(600)
        except Exception:
            note("caught", info.attempt)
    return batch
"""

KILLS_ITSELF = """
def process(batch):
    note("runs", os.getpid())
    if "poison" in batch:
        os.kill(os.getpid(), 9)
    return batch
"""

KEEPS_THE_LOCK = """
import ctypes

def process(batch):
    note("runs", os.getpid())
    ctypes.PyDLL(None).usleep(4_500_000)  # which keeps the interpreter's lock, and every thread waiting
    return batch
"""

KEEPS_THE_LOCK_FOR_EVER = """
import ctypes, signal
hurry_for_good(overrun_seconds=0.5)

def process(batch, info: BatchInfo):
    note("runs", os.getpid())
    if len(Path("runs").read_text().splitlines()) == 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # which would end the sleep
        ctypes.PyDLL(None).sleep(600)
    return batch
"""

HAS_A_POOL = """
import multiprocessing

def process(batch):
    with multiprocessing.get_context("fork").Pool(1) as pool:  # which ends its process by SIGTERM
        return pool.map(abs, batch)
"""


def test_the_batch_of_a_killed_worker_runs_again(valkey_server: RealServer, tmp_path: Path) -> None:
    results: list[list[int]] = []
    attempts: list[int] = []

    def handle(result: list[int], info: BatchInfo) -> None:
        results.append(result)
        attempts.append(info.attempt)

    with Fleet(valkey_server, tmp_path, HELD) as fleet:
        pool = fleet.pool(2)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=handle)
        mb.record_event(1)
        (victim,) = map(int, fleet.wait_for_note("runs"))
        before = set(pool.workers())
        assert victim in before
        end_process(victim)
        fleet.wait_for_note("runs", 2, timeout=15)
        pool.wait_for_line(f"worker {victim} ended with signal SIGKILL; starting another")
        wait_until(lambda: len(set(pool.workers()) - before) == 1)
        fleet.finish(mb)
        pool.terminate()
        assert pool.wait() == 0
    assert (results, attempts) == ([[1]], [2])


def test_a_killed_pool_leaves_no_worker_behind(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, HASTY + HELD) as fleet:
        pool = fleet.pool(2)
        fleet.scheduler_process()
        mb = fleet.batcher()
        mb.record_event(1)
        fleet.wait_for_note("runs")
        workers = wait_until(lambda: pool.workers() if len(pool.workers()) == 2 else [])
        pool.kill()
        wait_until(lambda: not any(map(is_alive, workers)), message="the end of its workers")
        fleet.worker()
        fleet.finish(mb)


def test_a_batch_that_takes_long_is_run_once_while_its_worker_shows_itself(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, HASTY + HELD) as fleet:
        fleet.worker()
        fleet.worker()  # it would be given the batch
        fleet.scheduler_process()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.wait_for_note("runs")
        (batch_id,) = fleet.broker.ledger.in_flight()
        due_ms = float(fleet.broker.server.do("ZSCORE", fleet.broker.keys.inflight, batch_id))
        # Wait until the run has lasted longer than its worker might have been silent.
        wait_until(lambda: fleet.broker.clock.now_ms() > due_ms + 1_500)
        assert len(fleet.noted("runs")) == 1
        fleet.let("go")
        fleet.finish(mb)
        assert len(fleet.noted("runs")) == 1
    assert results == [[1]]


def test_a_processor_that_keeps_the_interpreters_lock_is_run_once(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    """The run takes three times as long as its worker may be silent. Its retries would be used up by then."""
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, HASTY + KEEPS_THE_LOCK, max_retries=0) as fleet:
        fleet.pool(2)
        fleet.scheduler_process()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.finish(mb)
        assert len(fleet.noted("runs")) == 1
    assert results == [[1]]


def test_one_that_keeps_the_interpreters_lock_for_ever_loses_its_worker(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    results: list[list[int]] = []
    with Fleet(
        valkey_server, tmp_path, HASTY + KEEPS_THE_LOCK_FOR_EVER, batch_timeout=1, max_retries=1
    ) as fleet:
        pool = fleet.pool(1)
        fleet.scheduler_process()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.finish(mb)
        pool.wait_for_line("is still running past its time limit; ending it")
        assert len(fleet.noted("runs")) == 2
    assert results == [[1]]


@pytest.mark.parametrize("form", ["worker", "pool"])
def test_a_batch_that_takes_long_to_be_read_is_run_once(
    valkey_server: RealServer, tmp_path: Path, form: str
) -> None:
    """Reading the batch takes three times as long as its worker may be silent."""
    results: list[int] = []
    app = HASTY + "def process(batch):\n    note('runs', os.getpid())\n    return len(batch)\n"
    with Proxy(valkey_server) as link, Fleet(valkey_server, tmp_path, app, max_retries=0) as fleet:
        link.bytes_per_second = 400_000
        for _ in range(2):  # the second would be given the batch
            fleet.worker(redis_url=link.url) if form == "worker" else fleet.pool(1, redis_url=link.url)
        fleet.scheduler_process()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events(["x" * 900_000, "x" * 900_000])
        fleet.finish(mb)
        assert len(fleet.noted("runs")) == 1
    assert results == [2]


def test_a_worker_that_is_stopped_loses_its_batch_though_its_pool_lives(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    """The worker is stopped by SIGSTOP, or in a debugger: nothing says that it will ever continue."""
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, HASTY + HELD) as fleet:
        pool = fleet.pool(1)
        fleet.scheduler_process()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        (stopped,) = map(int, fleet.wait_for_note("runs"))
        os.kill(stopped, signal.SIGSTOP)
        fleet.worker()
        wait_until(lambda: mb.wait_for_results(0.05) or results)
        assert pool.running
        fleet.let("go")
        os.kill(stopped, signal.SIGCONT)
        fleet.finish(mb)
    assert results == [[1]]


def test_a_worker_that_was_stalled_changes_nothing(server: RealServer, tmp_path: Path) -> None:
    results: list[list[int]] = []
    with Fleet(server, tmp_path, HASTY + HELD) as fleet:
        stalled = fleet.worker()
        fleet.scheduler_process()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.wait_for_note("runs")
        stalled.send(signal.SIGSTOP)
        other = fleet.worker()
        wait_until(lambda: mb.wait_for_results(0.05) or results)
        other.terminate()
        assert other.wait() == 0
        fleet.let("go")
        stalled.send(signal.SIGCONT)
        mb.record_event(2)  # the stalled worker must have finished before this runs
        fleet.finish(mb)
        assert fleet.broker.stats.counters().done_batches == 2
    assert results == [[1], [2]]


def test_a_processor_that_hangs_is_stopped_and_tried_again(server: RealServer, tmp_path: Path) -> None:
    results: list[list[int]] = []
    with Fleet(server, tmp_path, HANGS_ONCE, batch_timeout=1, retry_delay=0.05) as fleet:
        worker = fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.wait_for_note("runs", 2, timeout=15)
        fleet.finish(mb)
        assert fleet.noted("runs") == ["1", "2"]
        assert worker.running
    assert results == [[1]]


def test_one_that_will_not_be_stopped_loses_its_worker(valkey_server: RealServer, tmp_path: Path) -> None:
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, HASTY + HANGS_STUBBORNLY, batch_timeout=1) as fleet:
        pool = fleet.pool(1)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.finish(mb)
        pool.wait_for_line("ended with signal SIGKILL; starting another")
        assert fleet.noted("runs") == ["1", "2"]
    assert results == [[1]]


@pytest.mark.leaves("dead", "batch")
def test_a_batch_that_kills_its_workers_is_given_up(valkey_server: RealServer, tmp_path: Path) -> None:
    results: list[list[str]] = []
    failures: list[BatchFailure] = []
    with Fleet(valkey_server, tmp_path, HASTY + KILLS_ITSELF, max_size=1, max_worker_deaths=1) as fleet:
        pool = fleet.pool(1)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append, failure_handler=failures.append)
        mb.record_events(["poison", "harmless"])
        fleet.finish(mb)
        assert pool.running
        assert len(fleet.noted("runs")) == 3
        (dead,) = fleet.broker.dead
        wait_until(lambda: FailedJobRegistry("mb:letters", valkey_server.admin).get_job_ids() == [dead.id])
        job = Job.fetch(dead.id, connection=valkey_server.admin, serializer=JSONSerializer)
        assert job.description == "letters: a batch of 1 event, cut by size, attempt 2"
    assert results == [["harmless"]]
    (failure,) = failures
    assert failure.events == ["poison"]
    assert failure.batch.attempt == 2
    assert "died or went silent" in failure.error


def test_a_processor_may_end_its_own_processes(valkey_server: RealServer, tmp_path: Path) -> None:
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, HAS_A_POOL, batch_timeout=15) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(-1)
        fleet.finish(mb, timeout=10)
    assert results == [[1]]
