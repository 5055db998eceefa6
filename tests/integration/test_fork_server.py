"""The process of a pool from which its workers are forked: what they share, and how it is replaced."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from microbatch.ops import rq_facts
from microbatch.producer import BatchInfo
from tests.fleet import HELD, Fleet
from tests.processes import Process, end_process, is_alive
from tests.servers import RealServer
from tests.waiting import wait_until

NOTES_ITS_IMPORT = """
note("imports", os.getpid())

def process(batch):
    note("runs", os.getpid())
    return batch
"""

SPAWNS = """
import multiprocessing

def process(batch):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, batch)
"""

SETS_UP_A_PROGRAM = """
import atexit, multiprocessing
from concurrent.futures import ThreadPoolExecutor

multiprocessing.set_start_method("spawn")
atexit.register(note, "ends", "atexit")

def work():
    wait_for("go")
    note("ends", "executor")

ThreadPoolExecutor().submit(work)
note("imports", multiprocessing.current_process().name + " " + multiprocessing.get_start_method())

def process(batch):
    return batch
"""

STOPPED = """\
import logging, os, signal, sys
from microbatch.worker.pool import WorkerPool

logging.basicConfig(level="INFO", format="%(message)s")
pool = WorkerPool(sys.argv[1], 1)
pool._server._socket.settimeout(0.3)
os.kill(pool._server._pid, signal.SIGSTOP)
pool.run()
"""


NO_ROOM_ONCE = """\
import errno, logging, os, signal, socket, sys
from microbatch.worker.pool import WorkerPool

logging.basicConfig(level="INFO", format="%(message)s")
pool = WorkerPool(sys.argv[1], 1)
pair, errors = socket.socketpair, [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]

def scarce():
    if errors:
        raise errors.pop()
    return pair()

socket.socketpair = scarce
os.kill(pool._server._pid, signal.SIGKILL)
pool.run()
"""


def fork_server_of(pool: Process) -> int:
    return pool.children()[0]


def workers_of(pool: Process, count: int) -> list[int]:
    """Its workers, as soon as there are so many. One that ends may be there for a while beside the next."""

    def found() -> list[int]:
        workers = pool.workers()
        return workers if len(workers) == count else []

    return wait_until(found)


def test_each_worker_imports_the_app_itself(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, NOTES_ITS_IMPORT) as fleet:
        pool = fleet.pool(2)
        workers = workers_of(pool, 2)
        assert {int(pid) for pid in fleet.wait_for_note("imports", 2)} == set(workers)
        end_process(workers[0])
        fleet.wait_for_note("imports", 3)
        assert len(set(fleet.noted("imports"))) == 3


def test_one_that_is_killed_is_replaced_and_its_workers_batches_run_again(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    attempts: list[int] = []

    def handle(_result: list[int], info: BatchInfo) -> None:
        attempts.append(info.attempt)

    with Fleet(valkey_server, tmp_path, HELD) as fleet:
        pool = fleet.pool(2)
        workers = workers_of(pool, 2)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=handle)
        mb.record_event(1)
        fleet.wait_for_note("runs")
        end_process(fork_server_of(pool))
        wait_until(lambda: not any(map(is_alive, workers)))
        pool.wait_for_line("the process that starts workers does not answer .*; starting another")
        fleet.finish(mb)
        workers_of(pool, 2)
        pool.terminate()
        assert pool.wait() == 0
    assert attempts == [2]


def test_a_fork_server_that_does_not_answer_is_replaced(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, NOTES_ITS_IMPORT) as fleet:
        pool = fleet.run(STOPPED, fleet.folder / "app.py")
        pool.wait_for_line(r"the process that starts workers does not answer \(timed out\); starting another")
        fleet.wait_for_note("imports")
        workers_of(pool, 1)
        pool.terminate()
        assert pool.wait() == 0


def test_a_stop_that_reaches_all_processes_lets_workers_finish(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    """systemd and many scripts stop a service this way: each of its processes gets the signal."""
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, HELD) as fleet:
        pool = fleet.pool(2)
        workers_of(pool, 2)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.wait_for_note("runs")
        for pid in (pool.pid, *pool.children()):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: len(pool.workers()) == 1)  # the worker that had no batch in hand has ended
        fleet.let("go")
        assert pool.wait() == 0
        fleet.finish(mb)
    assert results == [[1]]


def test_without_room_a_worker_is_started_later(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, NOTES_ITS_IMPORT) as fleet:
        pool = fleet.pool(1)
        (worker,) = map(int, fleet.wait_for_note("imports"))
        few = (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        before = resource.prlimit(pool.pid, resource.RLIMIT_NOFILE, few)
        end_process(worker)
        pool.wait_for_line(r"no worker can be started: .*Too many open files; trying again in 1 s")
        resource.prlimit(pool.pid, resource.RLIMIT_NOFILE, before)
        fleet.wait_for_note("imports", 2)
        pool.terminate()
        assert pool.wait() == 0


def test_a_worker_ends_as_a_program_does(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, SETS_UP_A_PROGRAM) as fleet:
        pool = fleet.pool(1)
        wait_until(lambda: rq_facts.workers_of(fleet.broker))
        pool.terminate()
        fleet.let("go")
        assert pool.wait() == 0
        # Python waits for an executor's threads, and then calls the functions of `atexit`.
        assert fleet.noted("ends") == ["executor", "atexit"]
        assert fleet.noted("imports") == ["MainProcess spawn"]


def test_without_room_the_fork_server_is_replaced_later(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, NOTES_ITS_IMPORT) as fleet:
        pool = fleet.run(NO_ROOM_ONCE, fleet.folder / "app.py")
        pool.wait_for_line("no worker can be started: .*Too many open files")
        fleet.wait_for_note("imports")
        pool.terminate()
        assert pool.wait() == 0


def test_a_processor_may_start_processes_of_its_own(valkey_server: RealServer, tmp_path: Path) -> None:
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, SPAWNS) as fleet:
        fleet.pool(1)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(-1)
        fleet.finish(mb)
    assert results == [[1]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_pool(valkey_server: RealServer, tmp_path: Path, number: signal.Signals) -> None:
    with Fleet(valkey_server, tmp_path, NOTES_ITS_IMPORT) as fleet:
        pool = fleet.pool(1)
        fleet.wait_for_note("imports")
        family = pool.children()
        pool.send(number)
        pool.wait()
        wait_until(lambda: not any(map(is_alive, family)))
