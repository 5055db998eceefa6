"""RQ's worker class, which also reports runs that are over already.

A batch is run before RQ is told, and RQ is told only of runs that failed or took long. For that, RQ executes
the batch's job, which then only reports (`BatchJob.end`). What this class changes, and the RQ internals (of
3.0) that it relies on:

- A run that was shown as a started job is not shown again (``execute_job``, ``prepare_execution``,
  ``executions``; ``job_class``), and its job expires even if nothing ends it (``prepare_job_execution``).
- A failure is reported with what was recorded of it (``handle_exception``, ``handle_job_failure``).

``tests/unit/test_rq_internals.py`` says which code in RQ uses each of these, and fails when that changes.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from rq import Queue
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.executions import Execution
from rq.job import Job

from microbatch.broker.broker import Broker
from microbatch.broker.errors import MicrobatchError
from microbatch.broker.process.loggable import locate, trace
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.text import printable
from microbatch.worker.rq.failed import show_as_failed, storable
from microbatch.worker.rq.job import BatchJob, JobRefused
from microbatch.worker.rq.resilient import ResilientWorker
from microbatch.worker.run_report import BatchDead, RunReport

log = logging.getLogger(__name__)

_UNENDED_SECONDS = 3_600


class ReportingWorker(ResilientWorker):
    """A worker on one queue that reports to RQ what it has run."""

    job_class = BatchJob

    def __init__(self, queue: Queue, server: Server, name: str, broker: Broker) -> None:
        self._config = broker.config
        shown_seconds = broker.timing.shown_worker_seconds
        super().__init__(queue, server, name, broker.config.name, shown_seconds=shown_seconds)

    def fetch(self, job_id: bytes) -> BatchJob | None:
        """The job with this id; None if there is none, or if it can't be read."""
        try:
            job: BatchJob = BatchJob.fetch(  # type: ignore[assignment]
                job_id.decode(), connection=self.connection, serializer=self.serializer
            )
        except NoSuchJobError:
            log.warning("%s: job %s is not there any more", self._config.name, printable(job_id))
        except (ValueError, TypeError, KeyError, RecursionError, JobRefused) as error:
            self._refuse(printable(job_id), error)
        else:
            return job
        self._server.do("LREM", self.queues[0].intermediate_queue_key, 0, job_id)
        return None

    def _refuse(self, job_id: str, error: BaseException) -> None:
        log.error("%s: job %s is not a batch's job, and is refused: %s", self._config.name, job_id, error)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Execute a job. If the server goes away before the run is recorded, the batch is run elsewhere."""
        try:
            with self._outliving_the_server():
                super().execute_job(job, queue)
        finally:
            if isinstance(job, BatchJob) and job.end is not None:
                job.end.release()

    def prepare_execution(self, job: Job) -> Execution:
        """Show that a job runs, unless it is shown already."""
        end = job.end if isinstance(job, BatchJob) else None
        return super().prepare_execution(job) if end is None or end.execution is None else end.execution

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:  # noqa: FBT001, FBT002 - RQ's signature
        """Show that a job runs, as RQ does, but let it expire. RQ's would stay if its worker is killed."""
        ttl = self.get_heartbeat_ttl(job)
        with self.connection.pipeline() as pipe:
            self.heartbeat(ttl, pipeline=pipe)
            job.heartbeat(datetime.now(UTC), ttl, pipeline=pipe)
            job.prepare_for_execution(self.name, pipeline=pipe)
            pipe.expire(job.key, ttl)
            if remove_from_intermediate_queue:
                pipe.lrem(self.queues[0].intermediate_queue_key, 1, job.id)
            pipe.execute()

    def let_expire(self, batch_id: str) -> None:
        """Have a batch's job expire in an hour, unless RQ is told how its run ended."""
        with self._outliving_the_server():
            self._server.do("EXPIRE", BatchJob.key_for(batch_id), _UNENDED_SECONDS, "NX")

    def end_what_is_shown(self) -> None:
        """End RQ's records of runs that are over, if the server could not be told before.

        Otherwise RQ would take such a record for the current job, and could stop no other.
        """
        for execution in list(self.executions.values()):
            with self._outliving_the_server(), self.connection.pipeline() as pipe:
                execution.delete(execution.job, pipe)
                pipe.execute(raise_on_error=False)
                del self.executions[execution.id]

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log what went wrong with a job. A dead batch has been reported already."""
        match exc_info[1]:
            case JobRefused() | DeserializationError() as error:
                self._refuse(job.id, error.__cause__ or error)
            case BatchDead():
                self._show_dead_parts(job)
            case MicrobatchError() as error:  # a batch that can't be read, or a server that refuses
                log.error("%s: batch %s: %s", self._config.name, job.id, locate(error))
            case _ if isinstance(job, BatchJob) and job.end is not None:
                pass  # it was reported when the run ended
            case error:  # not left to RQ, which would log the error's text
                log.error("%s: job %s can't be run: %s", self._config.name, job.id, trace(error))

    def _show_dead_parts(self, job: Job) -> None:
        end = job.end if isinstance(job, BatchJob) else None
        if end is not None and isinstance(end.said, RunReport):
            for part, failure in end.said.dead_parts:
                show_as_failed(self._config, job, part, failure)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Any = None,
    ) -> None:
        """Record a failure in RQ, as text that RQ can store: an error may quote any string."""
        super().handle_job_failure(job, queue, started_job_registry, storable(exc_string), execution)
