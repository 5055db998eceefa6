"""Jobs are hints: whatever happens to RQ's queue, the batches of the ledger run, and nothing else does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rq import Callback, Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from microbatch.scheduler.queue import JobQueue
from tests.fleet import ECHO, Fleet
from tests.servers import RealServer
from tests.unit.steps import due
from tests.waiting import wait_until

NOTES_RUNS = """
def process(batch, info: BatchInfo):
    note("runs", info.id)
    wait_for("go")
    return batch
"""


def rq_queue(server: RealServer, **options: Any) -> Queue:
    return Queue("mb:letters", connection=server.admin, **{"serializer": JSONSerializer, **options})


@pytest.mark.parametrize("way", ["empty", "del", "flush", "lose", "intermediate"])
def test_lost_jobs_are_made_up_for(
    server: RealServer, tmp_path: Path, way: str, hasty_reconciler: None
) -> None:
    results: list[list[int]] = []
    with Fleet(server, tmp_path, ECHO, max_size=2) as fleet:
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events(range(6))
        fleet.wait_for_cut(6)
        queue = rq_queue(server)
        assert queue.count == 3
        match way:
            case "empty":
                queue.empty()  # type: ignore[no-untyped-call]
            case "del":
                server.admin.delete("rq:queue:mb:letters")
            case "flush":
                server.admin.delete(*server.admin.keys("rq:*"))
            case "lose":
                server.admin.delete(*server.admin.keys("rq:job:*"))
            case "intermediate":  # as a worker leaves it that died with the job in hand
                while server.admin.lmove(queue.key, queue.intermediate_queue_key):
                    pass
        fleet.worker()
        fleet.finish(mb)
    assert sorted(results) == [[0, 1], [2, 3], [4, 5]]


def test_a_batch_that_is_tried_again_has_a_job_for_as_long_as_it_waits(
    server: RealServer, tmp_path: Path
) -> None:
    processor = """
def process(batch, info: BatchInfo):
    if info.attempt == 1:
        os.kill(os.getpid(), 15)  # so that its worker takes no other
        raise ValueError("not yet")
    return batch
"""
    results: list[list[int]] = []
    with Fleet(server, tmp_path, processor, retry_delay=3) as fleet:
        worker = fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        assert worker.wait() == 0, worker.output
        wait_until(lambda: server.admin.llen("rq:queue:mb:letters") == 1, message="a job in the queue")
        (batch_id,) = fleet.broker.ledger.in_flight()
        job = server.admin.hgetall(f"rq:job:{batch_id}")
        assert (job[b"status"], job.get(b"worker_name", b"")) == (b"queued", b"")
        assert server.admin.ttl(f"rq:job:{batch_id}") == -1
        fleet.worker()
        fleet.finish(mb)
    assert results == [[1]]


def test_a_job_that_moves_on_is_seen_all_the_time(server: RealServer, tmp_path: Path) -> None:
    """A worker moves the job off the queue while the scheduler looks for it."""
    with Fleet(server, tmp_path) as fleet:
        rq, looked = rq_queue(server), threading.Event()
        queue = JobQueue(fleet.config(), fleet.broker.server)

        def move_on() -> None:
            while not looked.is_set():
                server.admin.lmove(rq.key, rq.intermediate_queue_key)

        for _ in range(3):
            moving = threading.Thread(target=move_on)
            moving.start()
            try:
                for number in range(200):
                    job_id = f"{number:032x}"
                    rq.push_job_id(job_id)
                    jobs = queue.jobs([job_id], lambda: None)
                    assert job_id in jobs.queued | jobs.on_the_way
            finally:
                looked.set()
                moving.join()
            looked.clear()
            server.admin.delete(rq.key, rq.intermediate_queue_key)


def test_a_long_queue_is_read_in_pages_as_far_as_needed(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path) as fleet:
        rq, pages = rq_queue(server), []
        queue = JobQueue(fleet.config(), fleet.broker.server)
        ids = [f"{number:032x}" for number in range(25_000)]
        server.admin.rpush(rq.key, *ids)
        near, far, lost = ids[5], ids[24_999], "f" * 32
        assert queue.jobs([near], lambda: pages.append(near)).queued == {near}
        assert pages == []
        assert queue.jobs([near, far], lambda: pages.append(far)).queued == {near, far}
        assert pages == [far, far]
        assert queue.jobs([near, lost], lambda: pages.append(lost)).queued == {near}
        assert pages == [far, far, lost, lost]
        server.admin.delete(rq.key)


@pytest.mark.leaves("wake")  # words about room that the last commits make
def test_a_thousand_lost_jobs_cost_few_transactions(
    server: RealServer, tmp_path: Path, hasty_reconciler: None
) -> None:
    with Fleet(server, tmp_path, ECHO, max_size=1) as fleet:
        with fleet.scheduling():
            fleet.batcher().record_events(range(1_000))
            fleet.wait_for_cut(1_000)
        rq_queue(server).empty()  # type: ignore[no-untyped-call]
        ledger, clock = fleet.broker.ledger, fleet.broker.clock
        wait_until(lambda: len(due(fleet.broker, clock.now_ms())) == 1_000)
        server.admin.config_resetstat()
        with fleet.scheduling():
            wait_until(lambda: rq_queue(server).count == 1_000)
        stats: Any = server.admin.info("commandstats")
        assert stats["cmdstat_sadd"]["calls"] == 10  # RQ adds the name of its queue once in each transaction
        ids = ledger.in_flight()
        assert sorted(rq_queue(server).job_ids) == sorted(ids)
        for batch_id in ids:
            assert ledger.commit(batch_id)
        rq_queue(server).empty()  # type: ignore[no-untyped-call]


def test_a_job_that_comes_twice_has_one_result(server: RealServer, tmp_path: Path) -> None:
    results: list[list[int]] = []
    with Fleet(server, tmp_path, NOTES_RUNS, max_size=2) as fleet:
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events([1, 2])
        fleet.wait_for_cut(2)
        queue = rq_queue(server)
        (batch_id,) = queue.job_ids
        queue.push_job_id(batch_id)
        queue.enqueue("microbatch.worker.job.run_batch", "letters", batch_id)
        fleet.worker()
        fleet.worker()
        fleet.wait_for_note("runs")
        wait_until(lambda: not queue.count)
        fleet.let("go")
        fleet.finish(mb)
        queue.enqueue("microbatch.worker.job.run_batch", "letters", batch_id)  # it was done long ago
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(3)
        fleet.finish(mb)
        assert len(fleet.noted("runs")) == 2
    assert results == [[1, 2], [3]]


FORGERIES: dict[str, Callable[[Queue], Job]] = {
    "another function": lambda queue: queue.enqueue("os.system", "touch forged"),
    "a function of ours": lambda queue: queue.enqueue(
        "microbatch.broker.app.loading.load_config", "forged.py"
    ),
    "another batcher": lambda queue: queue.enqueue("microbatch.worker.job.run_batch", "numbers", "id"),
    "other arguments": lambda queue: queue.enqueue("microbatch.worker.job.run_batch", batcher="letters"),
    "no batch": lambda queue: queue.enqueue("microbatch.worker.job.run_batch", "letters", "0" * 32),
    "no id": lambda queue: queue.enqueue("microbatch.worker.job.run_batch", "letters", "../events"),
}


def test_forged_jobs_are_refused(server: RealServer, tmp_path: Path) -> None:
    (tmp_path / "forged.py").write_text("from pathlib import Path\nPath('forged').touch()\n")
    results: list[list[int]] = []
    with Fleet(server, tmp_path, ECHO) as fleet:
        worker = fleet.worker()
        queue = rq_queue(server)
        jobs = {name: forge(queue) for name, forge in FORGERIES.items()}
        jobs["callbacks"] = queue.enqueue(
            "os.system",
            "touch forged",
            on_success=Callback("forged.touch"),
            on_failure=Callback("forged.touch"),
            on_stopped=Callback("forged.touch"),
        )
        jobs["pickle"] = rq_queue(server, serializer=None).enqueue("os.system", "touch forged")
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.finish(mb)
        assert worker.running
        worker.wait_for_line("runs nothing but batches, not 'os.system'")
        for name, job in jobs.items():
            assert_failed(server, name, job)
    assert results == [[1]]
    assert not (tmp_path / "forged").exists()


def assert_failed(server: RealServer, name: str, job: Job) -> None:
    status = server.admin.hget(job.key, "status")
    assert status == (b"finished" if name == "no batch" else b"failed"), name
