"""Run: one worker process with a backlog of batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import UNBOUNDED, Ours
from benchmarks.plain_rq import WORKER
from benchmarks.processes import PYTHON, clear, running, server, wait_until
from benchmarks.rows.cut import SIZE, enqueue_many
from benchmarks.tally import check

NAME = "run"
TITLE = "batches of 30 run by one worker process, against RQ's `SimpleWorker` on jobs of the same payload"
CLAIMS = (Claim("batches/s", "Microbatch", 6.0, "RQ SimpleWorker"),)
_STEP = 50


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack, max_size=SIZE, max_in_flight=UNBOUNDED)
    theirs = stack.enter_context(server())
    client = stack.enter_context(redis.Redis.from_url(theirs.url))
    queue = Queue("sums", connection=client, serializer=JSONSerializer)

    def microbatch(count: int) -> Figures:
        """The processor adds up 30 numbers, and its results are stored: the benchmark counts them."""
        scheduler, made = ours.scheduler(), 0
        ours.fill(count * SIZE)
        while made < count:
            made += scheduler.run_once()
        with ours.worker():
            results = ours.broker.keys.results
            wait_until(lambda: ours.server.admin.xlen(results) == count, "all results")
        entries: Any = ours.server.admin.xrange(results)
        ours.handle(count * SIZE).check()
        scheduler.broker.close()
        clear(ours.server.admin)
        return {"batches/s": rate([int(entry.partition(b"-")[0]) / 1000 for entry, _ in entries])}

    def simple_worker(count: int) -> Figures:
        """The function does nothing and returns nothing."""
        for _ in range(count // _STEP):
            enqueue_many(queue, _STEP, "benchmarks.peers.rq_jobs.nothing")
        ids = queue.job_ids
        with running(PYTHON, *WORKER, "--burst", "--url", theirs.url, "sums") as worker:
            assert worker.wait() == 0
        jobs = Job.fetch_many(ids, client, JSONSerializer)
        ends = [job.ended_at.timestamp() for job in jobs if job is not None and job.ended_at is not None]
        check("jobs run", len(ends), count)
        clear(theirs.admin)
        return {"batches/s": rate(ends)}

    yield System("Microbatch", microbatch, first=300, step=_STEP, rate="batches/s")
    yield System("RQ SimpleWorker", simple_worker, first=300, step=_STEP, rate="batches/s")


def rate(moments: list[float]) -> float:
    """How many per second, from the first tenth on (a process warms up in it) to the last."""
    first, *_, last = measured = sorted(moments)[len(moments) // 10 :]
    return (len(measured) - 1) / (last - first)
