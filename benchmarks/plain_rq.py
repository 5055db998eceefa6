"""Plain RQ as it is measured: one job per event, and workers of RQ's fastest kind."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import redis
from rq.job import Job
from rq.registry import FinishedJobRegistry
from rq.serializers import JSONSerializer

from benchmarks.measure import Figures
from benchmarks.processes import PATIENCE_SECONDS, PYTHON, Producer, clear, running, server
from benchmarks.tally import Tally

WORKER = ["-m", "rq.cli", "worker", "--quiet", "--worker-class", "rq.SimpleWorker"]
WORKER += ["--serializer", "rq.serializers.JSONSerializer"]
_LOOK_SECONDS = 0.01


class PlainRQ:
    """Two of RQ's SimpleWorkers on their own server."""

    def __init__(self, stack: ExitStack) -> None:
        found = stack.enter_context(server())
        self._url = found.url
        self._client: Any = stack.enter_context(redis.Redis.from_url(found.url))
        for _ in range(2):
            stack.enter_context(running(PYTHON, *WORKER, "--url", found.url, "events"))

    def end_to_end(self, count: int) -> Figures:
        """Enqueue ``count`` jobs in another process, and read their results."""
        registry = FinishedJobRegistry("events", self._client, serializer=JSONSerializer)
        tally = Tally(count)
        producer = Producer(PYTHON, "-m", "benchmarks.peers.rq_jobs", str(count), BENCH_URL=self._url)
        producer.go()
        seen: set[str] = set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not tally.full and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            ids = [job_id for job_id in registry.get_job_ids(cleanup=False) if job_id not in seen]
            seen.update(ids)
            for job in Job.fetch_many(ids, self._client, JSONSerializer):
                assert job is not None
                tally.add(1, int(job.return_value() or 0))
        begun, ended = producer.moments()
        clear(self._client)
        return {"processed/s": tally.rate_since(begun), "recorded/s": count / (ended - begun)}
