"""RQ's books: what people see of a worker's batches in ``rq info`` and rq-dashboard.

Kept by the way, so that they cost a batch next to nothing: the counts once a second, a started job once its
run takes long. They rely on two names of RQ 3.0, the fields ``successful_job_count`` and
``total_working_time`` of a worker's hash.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from microbatch.broker.config import Config
from microbatch.broker.in_flight import Part, TakenBatch
from microbatch.broker.server import Server
from microbatch.broker.wire import Failure, shortened
from microbatch.worker.rq_job import JOB_FUNCTION, BatchJob


class StartedRun:
    """The run at hand, shown as a started job once it takes long.

    It is begun and over on the worker's thread, and shown on another: ``show`` makes RQ's record of it.
    """

    def __init__(self, show: Callable[[TakenBatch], Execution | None]) -> None:
        self._show = show
        self._changing = threading.Lock()
        self._batch: TakenBatch | None = None
        self._execution: Execution | None = None

    def begin(self, batch: TakenBatch) -> None:
        """A run begins, unseen."""
        with self._changing:
            self._batch, self._execution = batch, None

    def show(self, batch: TakenBatch) -> None:
        """Show a run, unless it is over."""
        with self._changing:
            if batch is self._batch:
                self._execution = self._show(batch)

    def stop(self, batch_id: str | None, stop: Callable[[], None]) -> None:
        """Call ``stop``, unless the run at hand is another batch's. It is not over before that is done."""
        with self._changing:
            if self._batch is None or self._batch.id == batch_id:
                stop()

    def over(self) -> Execution | None:
        """The run is over. Returns RQ's record of it, if it was shown; that is to be ended as well."""
        with self._changing:
            self._batch = None
            return self._execution


class Counts:
    """A worker's runs that have succeeded since they were last noted."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._runs, self._seconds = 0, 0.0

    def add(self, seconds: float) -> None:
        """A run of so many seconds has succeeded."""
        self._runs += 1
        self._seconds += seconds

    def note(self, worker_key: str) -> bool:
        """Add them to the worker's counts. Returns whether there were any. Raises ServerError."""
        if not self._runs:
            return False
        runs, seconds, self._runs, self._seconds = self._runs, self._seconds, 0, 0.0
        self._server.many(
            ("HINCRBY", worker_key, "successful_job_count", runs),
            ("HINCRBYFLOAT", worker_key, "total_working_time", seconds),
        )
        return True


def show_as_failed(config: Config, whole: Job, part: Part, failure: Failure) -> None:
    """Have a dead part of a batch among RQ's failed jobs, as a dead batch is."""
    job = BatchJob.create(
        JOB_FUNCTION,
        args=(config.name, part.id),
        id=part.id,
        origin=whole.origin,
        timeout=config.batch_timeout,
        failure_ttl=whole.failure_ttl,
        description=f"{config.name}: a part of a batch, {part.header.size} of its events",
        status=JobStatus.FAILED,
        connection=whole.connection,
        serializer=JSONSerializer,
    )
    whole.failed_job_registry.add(job, ttl=whole.failure_ttl)
    Result.create_failure(job, ttl=whole.failure_ttl, exc_string=storable(failure.traceback or failure.error))


def storable(text: str) -> str:
    """The text with what has no UTF-8 (half a surrogate pair, as in undecodable file names) written out.

    It is no longer than what is stored of an error elsewhere.
    """
    return shortened(text).encode("utf-8", "backslashreplace").decode()
