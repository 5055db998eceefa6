"""Stopping workers: they finish the batch in hand and claim no other, and no batch is stranded."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from microbatch.broker.wire.text import printable
from microbatch.producer import BatchInfo
from tests.fleet import HELD, Fleet, Recorder
from tests.processes import Process
from tests.servers import RealServer
from tests.waiting import wait_until

HELD_ONCE = """
def process(batch, info: BatchInfo):
    note("runs", f"{batch[0]} {info.attempt}")
    if len(Path("runs").read_text().splitlines()) == 1:
        wait_for("go")
    return batch
"""

NOTES_ITSELF = """
def process(batch):
    note("runs", os.getpid())
    return batch
"""


def ended_by_another_signal(process: Process) -> bool:
    """Send another signal. RQ takes a second one within a second for an echo of the first, so repeat this."""
    process.terminate()
    return not process.running


def test_a_warm_stop_finishes_the_batch_in_hand_and_no_other(server: RealServer, tmp_path: Path) -> None:
    results: list[list[int]] = []
    with Fleet(server, tmp_path, HELD, max_size=1) as fleet:
        worker = fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events([1, 2])
        fleet.wait_for_note("runs")
        fleet.wait_for_cut(2)
        worker.terminate()
        fleet.let("go")
        assert worker.wait() == 0, worker.output
        assert len(fleet.noted("runs")) == 1
        assert fleet.broker.stats.counters().done_events == 1
        assert len(fleet.broker.ledger.in_flight()) == 1
        fleet.worker()
        fleet.finish(mb)
    assert results == [[1], [2]]


@pytest.mark.parametrize(
    ("form", "signals"),
    [
        ("worker", ["again"]),
        ("pool", ["again"]),
        ("pool", ["grace"]),
    ],
    ids=["worker", "pool", "a pool whose grace is over"],
)
def test_a_hard_stop_gives_the_batch_back(
    server: RealServer, tmp_path: Path, form: str, signals: list[str]
) -> None:
    """The batch runs at once, before all waiting batches, and as if it had not run before."""
    results: list[list[int]] = []
    once = {"max_size": 1, "max_retries": 0, "max_worker_deaths": 0}
    with Fleet(server, tmp_path, HELD_ONCE, **once) as fleet:
        grace = 0.2 if signals == ["grace"] else 60
        stopped = fleet.worker() if form == "worker" else fleet.pool(1, grace=grace)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events([1, 2, 3])
        fleet.wait_for_note("runs")
        fleet.wait_for_cut(3)
        if signals == ["grace"]:
            stopped.terminate()
            stopped.wait()
        else:
            wait_until(lambda: ended_by_another_signal(stopped))
        assert "SystemExit" not in stopped.output
        assert fleet.broker.server.do("LINDEX", "rq:queue:mb:letters", 0) in map(
            str.encode, fleet.broker.ledger.in_flight()
        )
        assert fleet.broker.server.do("LLEN", "rq:queue:mb:letters") == 3
        fleet.worker()
        fleet.finish(mb)
        assert fleet.noted("runs") == ["1 1", "1 1", "2 1", "3 1"]
    assert results == [[1], [2], [3]]


@pytest.mark.parametrize("form", ["worker", "pool"])
@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGHUP],
        [signal.SIGTERM, signal.SIGTERM, signal.SIGHUP],  # to the process, its group, and from its terminal
    ],
    ids=["a closed terminal", "several at once"],
)
def test_signals_that_count_as_one_are_a_warm_stop(
    valkey_server: RealServer, tmp_path: Path, form: str, numbers: list[signal.Signals]
) -> None:
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, HELD_ONCE) as fleet:
        stopped = fleet.worker() if form == "worker" else fleet.pool(1)
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.wait_for_note("runs")
        for number in numbers:
            stopped.send(number)
        fleet.let("go")
        assert stopped.wait() == 0, stopped.output
        fleet.finish(mb)
        assert fleet.noted("runs") == ["1 1"]
    assert results == [[1]]


def test_an_idle_worker_that_is_told_to_stop_leaves_no_batch_on_the_way(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    results: list[list[int]] = []
    with Fleet(valkey_server, tmp_path, NOTES_ITSELF) as fleet:
        worker = fleet.worker()
        wait_until(lambda: b"idle" in valkey_server.admin.hvals(worker_key(valkey_server)))
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        worker.terminate()
        fleet.scheduler()
        assert worker.wait() == 0, worker.output
        fleet.wait_for_cut(1)
        assert valkey_server.admin.keys("rq:queue:mb:letters:*") == []
        fleet.worker()
        fleet.finish(mb)
        assert len(fleet.noted("runs")) == 1
    assert results == [[1]]


def worker_key(server: RealServer) -> str:
    """RQ's key of the one worker, as soon as it exists."""
    (key,) = wait_until(lambda: server.admin.smembers("rq:workers"), message="a worker that RQ knows")
    return printable(key)


def test_stopping_workers_under_load_strands_nothing(
    valkey_server: RealServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[int] = []
    attempts: Counter[int] = Counter()

    def handle(result: list[int], info: BatchInfo) -> None:
        events.extend(result)
        attempts[info.attempt] += 1

    with Fleet(valkey_server, tmp_path, NOTES_ITSELF, max_size=5) as fleet, caplog.at_level("INFO"):
        fleet.scheduler()
        mb = fleet.batcher(result_handler=handle)
        recorder = Recorder(mb)
        recorder.start()
        workers = [fleet.worker() for _ in range(3)]
        for _ in range(20):
            worker = workers.pop(0)
            wait_until(lambda pid=worker.pid: str(pid) in fleet.noted("runs"))  # type: ignore[misc]
            worker.terminate()
            assert worker.wait() == 0, worker.output
            workers.append(fleet.worker())
        recorder.finish()
        fleet.finish(mb)
    assert sorted(events) == list(range(recorder.count))
    # No batch was found stranded and run again.
    assert set(attempts) == {1}
    assert "enqueued again" not in caplog.text
