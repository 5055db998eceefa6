"""RQ's worker, made fit for batches. The only module of the worker that speaks RQ.

What it changes, and the RQ internals (of 3.0) that this relies on:

- It runs batches and nothing else. A job's hash may name any function, callback or webhook, so whoever
  can write to Redis could have anything run: `BatchJob` keeps none of them (``Job.restore``,
  ``Job.perform`` and the private attributes that ``restore`` fills).
- It takes jobs from one queue, so RQ moves each through a list of its own and a kill loses none
  (``Queue.dequeue_any``).
- It stops between jobs only. RQ's own worker may be interrupted after the server has handed out a job
  and before it is marked as started (``dequeue_job_and_maintain_ttl``, ``_shutdown``, ``_stop_requested``).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, DeserializationError, StopRequested, TimeoutFormatError
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from microbatch.broker.config import Config
from microbatch.broker.errors import DecodeError, InDoubt, ServerError, Unavailable
from microbatch.broker.ledger import Part
from microbatch.broker.patience import Patience
from microbatch.broker.server import Server
from microbatch.broker.wire import Failure
from microbatch.worker.failing import BatchDead
from microbatch.worker.job import run_batch

log = logging.getLogger(__name__)

JOB_FUNCTION = f"{run_batch.__module__}.{run_batch.__qualname__}"
_LISTEN_AGAIN_SECONDS = 2.0  # between tries of the thread that listens for RQ's commands
_BLOCK_SECONDS = 1  # how soon an idle worker sees that it is to stop
_HEARTBEAT_SECONDS = 5.0
_WORKER_TTL_SECONDS = 30  # how long a killed worker is still shown
# Of a job's fields those that a batch's job has use for: no callbacks, webhooks, repeats, dependencies.
_FIELDS = frozenset(
    b"created_at enqueued_at started_at ended_at last_heartbeat worker_name status origin description "
    b"data timeout result_ttl failure_ttl".split()
)
_LARGEST_PAYLOAD = 10_000  # bytes; a batch's has some hundred


class JobRefused(DecodeError):
    """A job on the batcher's queue is not a batch's."""


class BatchJob(Job):
    """A job that can only be a batch's."""

    def restore(self, raw_data: Any) -> None:
        """Read the job, without what could make RQ run or call something for it."""
        if len(raw_data.get(b"data", b"")) > _LARGEST_PAYLOAD:
            raise JobRefused("its payload is larger than any batch's")
        try:
            super().restore({name: value for name, value in raw_data.items() if name in _FIELDS})
        except (TimeoutFormatError, AssertionError) as error:  # RQ's ways to say that a time limit is none
            raise JobRefused(f"its time limit is none: {error}") from error

    def perform(self) -> str:
        """Run the batch. Raises JobRefused if the job names anything else."""
        arguments = self.args
        if self.func_name != JOB_FUNCTION or self.kwargs or len(arguments) != 2:
            raise JobRefused(f"this worker runs nothing but batches, not {self.func_name!r}")
        self._result = run_batch(str(arguments[0]), str(arguments[1]), enqueued_at=self.enqueued_at)
        return self._result


class BatchWorker(SimpleWorker):
    """One worker process of a batcher."""

    job_class = BatchJob

    def __init__(self, config: Config, server: Server) -> None:
        self._config = config
        self._server = server
        self._patience = Patience(config.name)
        self._heartbeat_at = 0.0
        name = f"{config.name}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        queue = Queue(config.name, connection=server.client, serializer=JSONSerializer, job_class=BatchJob)
        with server.translated():
            super().__init__(
                [queue],
                name=name,
                connection=server.client,
                serializer=JSONSerializer,
                worker_ttl=_WORKER_TTL_SECONDS,
                log_job_description=False,
            )

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,  # noqa: ARG002 - RQ's signature
        max_idle_time: int | None = None,  # noqa: ARG002
    ) -> tuple[Job, Queue] | None:
        """The next job; waits for one, and for a server that has gone away, until it is to stop."""
        self.set_state(WorkerStatus.IDLE)
        while not self._stop_requested:
            self._heartbeat_now_and_then()
            try:
                with self._server.translated():
                    taken = self._dequeue()
            except DequeueTimeout:
                self._patience.found()
            except ServerError as error:
                time.sleep(self._patience.lost(error))
            else:
                self._patience.found()
                return taken
        raise StopRequested

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job. If the server goes away before it is done, the batch is run again elsewhere."""
        with self._outliving_the_server():
            super().execute_job(job, queue)

    def set_state(self, state: str, pipeline: Any = None) -> None:
        """Show what this worker is at."""
        with self._outliving_the_server():
            super().set_state(state, pipeline)

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Show that this worker is alive."""
        with self._outliving_the_server():
            super().heartbeat(timeout, pipeline)

    def check_for_suspension(self, burst: bool) -> None:  # noqa: FBT001 - RQ's signature
        """Wait while somebody has suspended all workers."""
        with self._outliving_the_server():
            super().check_for_suspension(burst)

    def run_maintenance_tasks(self) -> None:
        """Tidy up RQ's registries."""
        with self._outliving_the_server():
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def register_death(self) -> None:
        """Show no more of this worker."""
        with self._outliving_the_server():
            super().register_death()  # type: ignore[no-untyped-call]

    @contextmanager
    def _outliving_the_server(self) -> Iterator[None]:
        """Whatever RQ wants to note, it is not worth the worker's life: the truth is in the ledger."""
        try:
            with self._server.translated():
                yield
        except ServerError as error:
            self._patience.lost(error)

    def _dequeue(self) -> tuple[Job, Queue] | None:
        try:
            return Queue.dequeue_any(
                self.queues,
                _BLOCK_SECONDS,
                connection=self.connection,
                job_class=self.job_class,
                serializer=self.serializer,
            )
        except (ValueError, TypeError, KeyError, UnicodeError, RecursionError, JobRefused) as error:
            # RQ says which job it was that could not be read.
            job_id = getattr(error, "job_id", None)
            if job_id is not None:
                self._refuse(job_id, error)
            elif not self._refuse_what_is_no_text():
                raise
            raise DequeueTimeout(0, self.queues[0].key) from error

    def _refuse(self, job_id: str, error: Exception) -> None:
        log.error("%s: job %s is no batch's, and is refused: %s", self._config.name, job_id, error)
        self.queues[0].intermediate_queue.remove(job_id)

    def _refuse_what_is_no_text(self) -> bool:
        """Whether there was an id that RQ can't read, and so can't name."""
        key, refused = self.queues[0].intermediate_queue_key, False
        for raw in self._server.do("LRANGE", key, 0, -1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                log.error("%s: job %s is no batch's, and is refused: %s", self._config.name, raw, error)  # noqa: TRY400
                self._server.do("LREM", key, 0, raw)
                refused = True
        return refused

    def _pubsub_exception_handler(self, exc: Exception, _pubsub: Any, _pubsub_thread: Any) -> None:
        """RQ's listener for commands has lost the server: the loop above says so, and waits for both."""
        try:
            with self._server.translated():
                raise exc
        except (Unavailable, InDoubt):
            time.sleep(_LISTEN_AGAIN_SECONDS)

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Report what went wrong with a job; a dead batch has been reported already."""
        error = exc_info[1]
        if isinstance(error, JobRefused | DeserializationError):
            cause = error.__cause__ or error
            log.error("%s: job %s is no batch's, and is refused: %s", self._config.name, job.id, cause)
            return
        if not isinstance(error, BatchDead):
            super().handle_exception(job, *exc_info)
            return
        for part, failure in error.parts:
            self._show_as_failed(job, part, failure)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Any = None,
    ) -> None:
        """Note a failure in RQ, which can't store every string that an error may quote."""
        super().handle_job_failure(job, queue, started_job_registry, _storable(exc_string), execution)

    def _show_as_failed(self, whole: Job, part: Part, failure: Failure) -> None:
        """Have a dead part of a batch among RQ's failed jobs, as a dead batch is."""
        job = self.job_class.create(
            JOB_FUNCTION,
            args=(self._config.name, part.id),
            id=part.id,
            origin=whole.origin,
            timeout=self._config.batch_timeout,
            failure_ttl=whole.failure_ttl,
            description=f"{self._config.name}: a part of a batch, {part.header.size} of its events",
            status=JobStatus.FAILED,
            connection=self.connection,
            serializer=JSONSerializer,
        )
        whole.failed_job_registry.add(job, ttl=whole.failure_ttl)
        Result.create_failure(
            job, ttl=whole.failure_ttl, exc_string=_storable(failure.traceback or failure.error)
        )

    def _heartbeat_now_and_then(self) -> None:
        now = time.monotonic()
        if now >= self._heartbeat_at:
            self.heartbeat()
            self._heartbeat_at = now + _HEARTBEAT_SECONDS

    def _shutdown(self) -> None:
        """Called by RQ's signal handler: stop when the batch in hand, if any, is finished."""
        self._stop_requested = True


def _storable(text: str) -> str:
    """The text with what has no UTF-8 (half a surrogate pair, as in undecodable file names) written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def work(config: Config) -> None:
    """Run batches in this process until SIGTERM or SIGINT; a second one ends it at once.

    Raises:
        ConfigError: the config has no server.
        ServerError: the server can't be reached.
    """
    server = Server.at(config.required_url())
    BatchWorker(config, server).work(logging_level="WARNING")
