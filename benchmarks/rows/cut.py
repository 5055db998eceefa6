"""Cut: one scheduler, with a backlog."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import UNBOUNDED, Ours
from benchmarks.processes import clear, server
from benchmarks.tally import check

NAME = "cut"
TITLE = "batches of 30 cut and enqueued by one scheduler with a backlog, against bare `Queue.enqueue_many`"
CLAIMS = (Claim("batches/s", "Microbatch", 0.6, "bare enqueue_many"),)
SIZE = 30
_PIPELINE = 100


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack, max_size=SIZE, max_in_flight=UNBOUNDED)
    theirs = stack.enter_context(server())
    client = stack.enter_context(redis.Redis.from_url(theirs.url))
    queue = Queue("sums", connection=client, serializer=JSONSerializer)
    queue.get_redis_server_version()  # otherwise RQ asks once within a pipeline

    def microbatch(count: int) -> Figures:
        scheduler = ours.scheduler()
        ours.fill(count * SIZE)
        begun, made = time.perf_counter(), 0
        while made < count:
            made += scheduler.run_once()
        ended = time.perf_counter()
        ours.check_cut(count * SIZE)
        scheduler.broker.close()
        clear(ours.server.admin)
        return {"batches/s": count / (ended - begun)}

    def bare(count: int) -> Figures:
        begun = time.perf_counter()
        for _ in range(count // _PIPELINE):
            enqueue_many(queue, _PIPELINE)
        ended = time.perf_counter()
        check("jobs", len(queue), count)
        clear(theirs.admin)
        return {"batches/s": count / (ended - begun)}

    yield System("Microbatch", microbatch, first=500, step=_PIPELINE, share=0.5, rate="batches/s")
    yield System("bare enqueue_many", bare, first=500, step=_PIPELINE, share=0.5, rate="batches/s")


def enqueue_many(queue: Queue, count: int, function: str = "microbatch.worker.job.run_batch") -> None:
    """Enqueue ``count`` jobs with the same content as ours."""
    ids = [uuid.uuid4().hex for _ in range(count)]
    with queue.connection.pipeline() as pipe:
        queue.enqueue_many(
            [
                Queue.prepare_data(
                    function,
                    args=(queue.name, batch_id),
                    job_id=batch_id,
                    timeout=300,
                    result_ttl=500,
                    failure_ttl=7 * 24 * 3600,
                    description=f"{queue.name}: a batch of {SIZE} events, cut by size",
                )
                for batch_id in ids
            ],
            pipeline=pipe,
        )
        pipe.execute()
