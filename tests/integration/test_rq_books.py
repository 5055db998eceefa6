"""RQ's records, as ``rq info``, rq-dashboard and RQ's registries show them. RQ's own loop runs no batch."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from rq import Queue, SimpleWorker, Worker, suspension
from rq.command import send_shutdown_command, send_stop_job_command
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, WorkerStatus

from microbatch.broker.wire.ending import PLAIN_END
from microbatch.broker.wire.in_flight import ClaimedBatch, DueBatch
from microbatch.scheduler import queue
from microbatch.scheduler.queue import JobQueue
from microbatch.worker import job as batch_job
from microbatch.worker.rq.job import JOB_FUNCTION
from microbatch.worker.rq.worker import BatchWorker
from microbatch.worker.runner import BatchRunner, Run
from tests.conftest import MakeServer
from tests.fleet import ECHO, Fleet
from tests.servers import RealServer
from tests.unit.steps import FAILURE, FakeClient, bury
from tests.waiting import wait_until

HELD = """
def process(batch):
    note("runs", os.getpid())
    if batch == [1]:
        wait_for("go")
    return batch
"""


class Books:
    """RQ's view of a batcher, through RQ's own classes."""

    def __init__(self, fleet: Fleet) -> None:
        self.connection = fleet.broker.server.client
        self.queue = Queue("mb:letters", connection=self.connection, serializer=JSONSerializer)

    def worker(self) -> BaseWorker:
        return wait_until(lambda: Worker.all(connection=self.connection), message="a worker that RQ knows")[0]

    def job(self, job_id: str) -> Job:
        return Job.fetch(job_id, connection=self.connection, serializer=JSONSerializer)

    def wait_for_started(self) -> Job:
        """A job that is shown as started, together with its worker. RQ records the two in separate steps."""
        started = wait_until(self.queue.started_job_registry.get_job_ids, message="a started job")
        wait_until(lambda: self.job(started[0]).worker_name, message="the worker of a started job")
        return self.job(started[0])


def test_both_ends_name_the_same_function() -> None:
    assert queue.JOB_FUNCTION == JOB_FUNCTION


def test_finished_jobs_are_shown(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, ECHO, max_size=1) as fleet:
        books, results = Books(fleet), list[list[int]]()
        mb = fleet.batcher(result_handler=results.append)
        fleet.scheduler()
        mb.record_events(range(5))
        fleet.wait_for_cut(5)
        ids = set(books.queue.get_job_ids())
        assert len(ids) == 5
        fleet.worker()
        fleet.finish(mb)
        assert sorted(results) == [[0], [1], [2], [3], [4]]
        assert set(books.queue.finished_job_registry.get_job_ids()) == ids
        assert books.queue.get_job_ids() == books.queue.intermediate_queue.get_job_ids() == []
        worker = books.worker()
        for job in map(books.job, ids):
            assert job.get_status() is JobStatus.FINISHED
            assert job.enqueued_at is not None
            assert job.started_at is not None
            assert job.ended_at is not None
            assert job.enqueued_at <= job.started_at <= job.ended_at
            assert job.worker_name == worker.name
        wait_until(lambda: books.worker().successful_job_count == 5, message="a count of five")
        assert books.worker().total_working_time > 0
        wait_until(lambda: books.worker().get_state() == WorkerStatus.IDLE, message="an idle worker")


def rq_keys(books: Books, job_id: str) -> dict[str, Any]:
    """What RQ keeps about a queue and a job on it, without times and names."""
    found: dict[str, Any] = {}
    client: FakeClient = books.connection
    for raw in sorted(client.scan_iter("rq:*")):
        key, kind = raw.decode(), client.type(raw)
        if "worker" in key or "clean" in key:
            continue
        name = key.replace(job_id, "<job>")
        match kind:
            case b"hash":
                fields = {
                    name.decode(): value.decode("latin-1") for name, value in client.hgetall(raw).items()
                }
                found[name] = {
                    field: re.sub(r"[0-9]", "0", value)
                    for field, value in fields.items()
                    if field not in {"data", "worker_name"}
                }
            case b"zset":
                found[name] = [
                    member.decode().replace(job_id, "<job>") for member in client.zrange(raw, 0, -1)
                ]
            case _:
                found[name] = kind
        found[f"{name} expires"] = client.ttl(raw) > 0
    return found


def test_a_turn_leaves_what_rqs_own_worker_leaves(
    valkey_server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release of RQ that keeps other records makes this test fail."""
    left = []
    for rqs_own in (True, False):
        with Fleet(valkey_server, tmp_path, ECHO, max_size=1) as fleet:
            books = Books(fleet)
            mb = fleet.batcher()
            fleet.scheduler()
            mb.record_event(1)
            fleet.wait_for_cut(1)
            (job_id,) = books.queue.get_job_ids()
            if rqs_own:
                monkeypatch.setenv("MICROBATCH_APP", str(tmp_path / "app.py"))
                monkeypatch.setenv("MICROBATCH_NAME", "letters")
                monkeypatch.setenv("MICROBATCH_REDIS_URL", valkey_server.url)
                batch_job._runner.cache_clear()
                SimpleWorker([books.queue], connection=books.connection, serializer=JSONSerializer).work(
                    burst=True
                )
            else:
                fleet.worker()
            fleet.finish(mb)
            left.append(rq_keys(books, job_id))
            valkey_server.admin.flushall()
    rqs, ours = left
    # RQ also keeps the return value of a job's function. Here that is one word; the result is on the stream.
    assert set(rqs) - set(ours) == {"rq:results:<job>", "rq:results:<job> expires"}
    assert set(ours) <= set(rqs)
    assert ours == {key: rqs[key] for key in ours}


def test_a_long_run_is_shown_while_it_goes_on(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, HELD, max_size=1) as fleet:
        books, results = Books(fleet), list[list[int]]()
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        job = books.wait_for_started()
        assert job.get_status() is JobStatus.STARTED
        assert fleet.broker.ledger.in_flight() == [job.id]
        worker = books.worker()
        assert (worker.get_state(), worker.get_current_job_id()) == (WorkerStatus.BUSY, job.id)
        fleet.let("go")
        fleet.finish(mb)
        assert results == [[1]]
        wait_until(lambda: books.job(job.id).get_status() is JobStatus.FINISHED, message="a finished job")
        wait_until(lambda: books.worker().get_state() == WorkerStatus.IDLE, message="an idle worker")
        assert books.queue.started_job_registry.get_job_ids() == []
        assert books.worker().get_current_job_id() is None
        assert books.worker().successful_job_count == 1
        ended = books.job(job.id)
        assert ended.started_at is not None
        assert ended.ended_at is not None
        assert (ended.ended_at - ended.started_at).total_seconds() >= 0.5


@pytest.mark.leaves("dead", "batch")
def test_a_job_that_is_stopped_from_rq_is_dead_at_once(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, HELD, max_size=1, max_retries=5) as fleet:
        books, results, failures = Books(fleet), list[list[int]](), list[Any]()
        worker = fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append, failure_handler=failures.append)
        mb.record_event(1)
        job = books.wait_for_started()
        for nonsense in ("nonsense", b"\xff", "[1]", "{}", '{"command": "stop-job"}'):
            books.connection.publish(f"rq:pubsub:{books.worker().name}", nonsense)
        send_stop_job_command(books.connection, job.id, serializer=JSONSerializer)
        wait_until(lambda: fleet.broker.dead.count() == 1, message=fleet.state)
        mb.record_event(2)
        fleet.finish(mb)
        assert results == [[2]]
        (failure,) = failures
        assert (failure.events, failure.batch.attempt) == ([1], 1)
        assert "stopped by hand" in failure.error
        wait_until(lambda: books.job(job.id).get_status() is JobStatus.STOPPED, message="a stopped job")
        assert books.queue.failed_job_registry.get_job_ids() == [job.id]
        assert worker.running, worker.output


HELD_EACH = """
def process(batch):
    wait_for(batch[0])
    return batch
"""


@pytest.mark.leaves("dead", "batch")
def test_a_run_whose_job_was_deleted_is_shown_no_longer_and_the_next_can_be_stopped(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    with Fleet(valkey_server, tmp_path, HELD_EACH, max_size=1) as fleet:
        books, results = Books(fleet), list[list[str]]()
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event("first")
        first = books.wait_for_started()
        books.connection.delete(first.key)
        fleet.let("first")
        wait_until(lambda: not books.queue.started_job_registry.get_job_ids(), message="no started job")
        assert books.worker().get_current_job_id() is None
        mb.record_event("second")
        second = books.wait_for_started()
        send_stop_job_command(books.connection, second.id, serializer=JSONSerializer)
        wait_until(lambda: fleet.broker.dead.count() == 1, message=fleet.state)
        fleet.finish(mb)
        assert results == [["first"]]


def test_a_state_that_could_not_be_shown_is_shown_when_the_server_is_back(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(appendonly=True)
    with Fleet(server, tmp_path) as fleet:
        worker = a_worker(fleet)
        worker.show_state(WorkerStatus.BUSY)
        server.kill()
        worker.show_state(WorkerStatus.IDLE)
        server.start()
        worker.show_state(WorkerStatus.IDLE)
        assert server.admin.hget(worker.key, "state") == b"idle"
    server.admin.delete(worker.key)


def test_an_idle_worker_waits_only_until_its_chores_are_due(
    valkey_server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    with Fleet(valkey_server, tmp_path) as fleet:
        worker = a_worker(fleet)
        monkeypatch.setattr(worker._turns, "wait", waits.append)
        for seconds in (-1.0, 0.5, 10.0):
            worker._chores_at = time.monotonic() + seconds
            worker._take_turns()
    too_late, soon, long = waits
    assert 0 < too_late < soon <= 0.5 < long == 1


@pytest.mark.leaves("dead", "batch", "results")
def test_a_worker_that_comes_too_late_leaves_a_dead_batchs_job(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path) as fleet:
        books, worker = Books(fleet), a_worker(fleet)
        fleet.scheduler()
        fleet.batcher().record_event(1)
        fleet.wait_for_cut(1)
        batch = worker._turns.wait(1)
        assert isinstance(batch, ClaimedBatch)
        assert bury(fleet.broker, batch.id, batch.run)  # because its worker seems dead
        JobQueue(fleet.config(), fleet.broker.server).show_as_failed(
            DueBatch(batch.id, batch.header, batch.run, batch.run), FAILURE
        )
        worker._turns.commit_and_claim_next(Run(batch, PLAIN_END), time.time(), go_on=False)
        assert books.queue.failed_job_registry.get_job_ids() == [batch.id]
        assert server.admin.ttl(books.job(batch.id).key) > 24 * 3600


def a_worker(fleet: Fleet) -> BatchWorker:
    """A worker in this process, which does nothing until it is told to."""
    config = fleet.config(batch_processor=sum)
    return BatchWorker(BatchRunner(config, broker=fleet.broker), fleet.broker.server)


CATCHES_ALL = """
def process(batch):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            time.sleep(0.01)
        except Exception:
            return batch
"""


@pytest.mark.leaves("dead", "batch")
def test_a_processor_that_catches_everything_has_failed_past_its_time_limit(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    failures: list[Any] = []
    with Fleet(valkey_server, tmp_path, CATCHES_ALL, max_retries=0, batch_timeout=1) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(failure_handler=failures.append)
        mb.record_event(1)
        fleet.finish(mb)
    (failure,) = failures
    assert "JobTimeoutException" in failure.error


# RQ's commands reach a worker some time after they were sent, and in order.
HELD_UNTIL_TOLD_TO_STOP = """
import signal

def process(batch):
    told = signal.getsignal(signal.SIGINT)

    def handler(number, frame):
        told(number, frame)
        note("told", number)

    signal.signal(signal.SIGINT, handler)
    note("runs", os.getpid())
    if batch == [1]:
        wait_for("told")
    return batch
"""


def test_a_stop_for_another_job_stops_nothing(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, HELD_UNTIL_TOLD_TO_STOP, max_size=1) as fleet:
        books, results = Books(fleet), list[list[int]]()
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        job = books.wait_for_started()
        books.connection.publish(
            f"rq:pubsub:{books.worker().name}",
            '{"command": "stop-job", "job_id": "another", "created_at": 1}',
        )
        send_shutdown_command(books.connection, books.worker().name)
        wait_until(lambda: not fleet.broker.ledger.in_flight(), message=fleet.state)
        fleet.finish(mb)
        assert results == [[1]]
        # RQ is informed about a run that was shown after its batch was committed.
        wait_until(lambda: books.job(job.id).get_status() is JobStatus.FINISHED)


def test_a_worker_that_rq_tells_to_shut_down_finishes_its_batch(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    with Fleet(valkey_server, tmp_path, HELD_UNTIL_TOLD_TO_STOP, max_size=1) as fleet:
        books, results = Books(fleet), list[list[int]]()
        worker = fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events([1, 2])
        fleet.wait_for_note("runs")
        send_shutdown_command(books.connection, books.worker().name)
        assert worker.wait() == 0, worker.output
        assert fleet.broker.stats.counters().done_events == 1
        assert len(fleet.broker.ledger.in_flight()) == 1
        fleet.worker()
        fleet.finish(mb)
        assert results == [[1], [2]]


def test_suspended_workers_run_nothing(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, ECHO, max_size=1) as fleet:
        books, results = Books(fleet), list[list[int]]()
        suspension.suspend(books.connection)
        fleet.worker()
        fleet.scheduler()
        wait_until(lambda: books.worker().get_state() == WorkerStatus.SUSPENDED, message="a suspended worker")
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        fleet.wait_for_cut(1)
        assert len(books.queue.get_job_ids()) == 1
        suspension.resume(books.connection)
        fleet.finish(mb)
        assert results == [[1]]
