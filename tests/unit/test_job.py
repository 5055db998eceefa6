"""The job: a worker runs only batches of its own app, whatever Redis contains."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rq import Callback, Queue, Retry
from rq.job import Job
from rq.serializers import JSONSerializer

from microbatch.broker.errors import AppError
from microbatch.scheduler.queue import JOB_FUNCTION as ENQUEUED
from microbatch.worker import job as module
from microbatch.worker.job import run_batch
from microbatch.worker.rq import job as rq_job
from microbatch.worker.rq.job import JOB_FUNCTION, BatchJob, JobRefused
from tests.unit.conftest import MakeRunner
from tests.unit.steps import FakeClient, record_and_cut


@pytest.fixture(autouse=True)
def fresh_runner() -> Iterator[None]:
    cached = module._runner
    cached.cache_clear()
    yield
    cached.cache_clear()


def test_the_scheduler_enqueues_what_the_worker_runs() -> None:
    assert ENQUEUED == JOB_FUNCTION == "microbatch.worker.job.run_batch"


def test_a_job_runs_its_batch(make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner(sum)
    monkeypatch.setattr(module, "_runner", lambda _pid: runner)
    batch_id = record_and_cut(runner.broker, 1, 2)
    assert run_batch("letters", batch_id) == "done"


def test_a_job_of_another_batcher_is_refused(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner(sum)
    monkeypatch.setattr(module, "_runner", lambda _pid: runner)
    with pytest.raises(AppError, match="this worker runs the batches of 'letters', not of 'numbers'"):
        run_batch("numbers", "0a")


def test_a_process_has_one_runner_and_a_fork_another(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("app_job.py").write_text(
        "from microbatch.producer import Config\n"
        "config = Config(name='letters', batch_processor=sum, redis_url='redis://127.0.0.1:1')\n"
    )
    monkeypatch.setenv("MICROBATCH_APP", "app_job.py")
    first = module._runner(1)
    assert module._runner(1) is first
    assert module._runner(2) is not first


def enqueued(client: FakeClient, function: Any, *args: Any, **options: Any) -> Job:
    """A job as a worker reads it."""
    queue = Queue("mb:letters", connection=client, serializer=JSONSerializer)
    job = queue.enqueue(function, *args, **options)
    return BatchJob.fetch(job.id, connection=client, serializer=JSONSerializer)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The batches that were run."""
    found: list[tuple[str, str]] = []

    def note(batcher: str, batch_id: str, *, enqueued_at: datetime) -> str:
        found.append((batcher, batch_id))
        return "done"

    monkeypatch.setattr(rq_job, "run_batch", note)
    return found


def test_a_batchs_job_is_run(client: FakeClient, ran: list[tuple[str, str]]) -> None:
    job = enqueued(client, JOB_FUNCTION, "letters", "0a")
    assert job.perform() == "done"
    assert ran == [("letters", "0a")]


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        ("os.system", ("touch pwned",), {}),
        ("builtins.eval", ("1", "2"), {}),
        ("microbatch.worker.job.os.system", ("letters", "0a"), {}),
        (JOB_FUNCTION, ("letters",), {}),
        (JOB_FUNCTION, ("letters", "0a", "more"), {}),
        (JOB_FUNCTION, ("letters", "0a"), {"more": 1}),
    ],
)
def test_any_other_job_is_refused(
    client: FakeClient,
    ran: list[tuple[str, str]],
    function: str,
    args: tuple[str, ...],
    kwargs: dict[str, Any],
) -> None:
    job = enqueued(client, function, *args, **kwargs)
    with pytest.raises(JobRefused, match=f"nothing but batches, not '{function}'"):
        job.perform()
    assert ran == []
    assert not Path("pwned").exists()


def harm(*_arguments: object) -> None:
    raise AssertionError("a callback from Redis was called")


def test_nothing_else_that_a_job_names_is_kept(client: FakeClient) -> None:
    forged = {
        "on_success": Callback(harm),
        "on_failure": Callback(harm),
        "on_stopped": Callback(harm),
        "retry": Retry(3),
    }
    stock = enqueued(client, JOB_FUNCTION, "letters", "0a", **forged)
    job_as_rq_reads_it = Job.fetch(stock.id, connection=client, serializer=JSONSerializer)
    assert job_as_rq_reads_it.failure_callback is not None
    for job in (stock, BatchJob.fetch(stock.id, connection=client, serializer=JSONSerializer)):
        assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)
        assert job.webhooks == []
        assert job.dependency_ids == []
        assert job.repeats_left is None
