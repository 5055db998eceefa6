"""RQ's worker, made fit for batches.

What it changes, and the RQ internals (of 3.0) that this relies on:

- It takes turns at its queue by itself (`Turns`), and gives RQ's loop only what is not a batch that runs and
  succeeds (``dequeue_job_and_maintain_ttl``, ``execute_job``; ``job_class``, ``death_penalty_class``). What
  RQ does between jobs it does once a second: the worker's state and counts, its heartbeat, suspension and
  maintenance (``check_for_suspension``, ``should_run_maintenance_tasks``, ``run_maintenance_tasks``).
- A run is shown as a started job once it takes long (``prepare_execution``, ``prepare_job_execution``,
  ``executions``), and is then one that RQ can be told to stop (``kill_horse``, which RQ calls on the thread
  that listens, if ``get_current_job_id`` is that job's; ``_stopped_job_id``).
- It stops between jobs only. RQ's own worker may be interrupted after the server has handed out a job
  and before it is marked as started (``_shutdown``, ``_stop_requested``). When told twice it ends at once
  (``request_force_stop``).
- It reports a failure by what has been recorded of it (``handle_exception``, ``handle_job_failure``).

``tests/unit/test_rq_internals.py`` says who in RQ uses each of these, and fails when that changes.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import time
from datetime import UTC, datetime
from typing import Any

from rq import Queue
from rq.exceptions import DeserializationError, NoSuchJobError, StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.worker import WorkerStatus

from microbatch.broker.config import Config
from microbatch.broker.errors import MicrobatchError, ServerError
from microbatch.broker.frames import release, release_locals
from microbatch.broker.in_flight import TakenBatch
from microbatch.broker.server import Server
from microbatch.broker.wire import printable
from microbatch.worker.failing import BatchDead, RunStopped
from microbatch.worker.forks import signals_end_forks
from microbatch.worker.job import runner_of_this_process
from microbatch.worker.rq_books import Counts, StartedRun, show_as_failed, storable
from microbatch.worker.rq_job import BatchJob, End, JobRefused
from microbatch.worker.rq_limit import RunLimit
from microbatch.worker.rq_sturdy import SturdyWorker
from microbatch.worker.runner import BatchRunner, Run
from microbatch.worker.turns import RqKeys, Turns

log = logging.getLogger(__name__)

_BLOCK_SECONDS = 1.0  # how soon an idle worker sees that it is to stop
_SHORTEST_BLOCK_SECONDS = 0.01  # none would be for ever
_CHORES_SECONDS = 1.0


class BatchWorker(SturdyWorker):
    """One worker process of a batcher."""

    job_class = BatchJob
    death_penalty_class = RunLimit

    def __init__(self, runner: BatchRunner, server: Server) -> None:
        self._runner = runner
        self._config = runner.config
        self._chores_at = 0.0
        self._counts = Counts(server)
        self._started = StartedRun(self._show_as_started)
        runner.heart.on_long_run = self._started.show
        name = f"{self._config.name}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        queue = Queue(
            self._config.name, connection=server.client, serializer=JSONSerializer, job_class=BatchJob
        )
        self._turns = Turns(runner, _keys(queue), name)
        super().__init__(queue, server, name)

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,  # noqa: ARG002 - RQ's signature
        max_idle_time: int | None = None,  # noqa: ARG002
    ) -> tuple[Job, Queue] | None:
        """Run batches, and wait for them, and for a server that has gone away, until it is to stop.

        Returns the next job that goes RQ's own way.
        """
        while not self._is_to_stop():
            self._end_what_is_shown()
            self._do_chores()
            try:
                with self._server.translated():
                    job = self._take_turns()
            except ServerError as error:
                time.sleep(self._patience.lost(error))
                continue
            self._patience.found()
            if job is not None:
                return job, self.queues[0]
        raise StopRequested

    def _take_turns(self) -> Job | None:
        """Run batch after batch, until none waits, there are chores to do, or a job goes RQ's own way."""
        seconds = min(_BLOCK_SECONDS, self._chores_at - time.monotonic())
        batch = self._turns.wait(max(seconds, _SHORTEST_BLOCK_SECONDS))
        while batch is not None:
            if isinstance(batch, bytes):
                return self._fetch(batch)
            began = time.time()
            with self._runner.heart.beating_for(batch):
                run = self._run(batch)
                execution = self._started.over()
                if run.error is not None or execution is not None:
                    end = End(datetime.fromtimestamp(began, UTC), self._settle(run), execution)
                    return self._job_of(batch.id, end)
                go_on = not self._is_to_stop() and time.monotonic() < self._chores_at
                batch = self._turns.end(run, began, go_on=go_on)
            self._counts.add(time.time() - began)
        return None

    def _run(self, batch: TakenBatch) -> Run:
        """Run a batch under its time limit."""
        self._started.begin(batch)
        limit = RunLimit(self._config.batch_timeout, JobTimeoutException)  # type: ignore[no-untyped-call]
        try:
            with limit:
                run = self._runner.process(batch)
        except (JobTimeoutException, RunStopped) as error:  # it came when the processor had just returned
            run = Run(batch, error=error)
        if limit.raised is not None:
            # A processor that catches everything has not succeeded for that.
            run, limit.raised = Run(batch, error=limit.raised), None
        if run.error is not None:
            release_locals(run.error)
        return run

    def _settle(self, run: Run) -> str | BaseException:
        said: str | BaseException
        try:
            said = self._runner.settle(run)
        except MicrobatchError as error:
            said = error
        except Exception as error:
            # Of ours, and the batch is run again; the other batches are not to suffer for it.
            log.exception("%s: batch %s: its end can't be recorded", self._config.name, run.batch.id)
            said = error
        if isinstance(said, BaseException):
            release_locals(said)  # RQ is to show the traceback of the run, and drops it then
        elif run.error is not None:
            release(run.error)
        return said

    def _job_of(self, batch_id: str, end: End) -> BatchJob | None:
        """The job by which RQ is told how a run ended, or None if there is none."""
        job = self._fetch(batch_id.encode())
        if job is not None:
            job.end = end
        else:
            end.release()
        return job

    def _fetch(self, job_id: bytes) -> BatchJob | None:
        """The job of this id, or None if there is none, or none that can be read."""
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
        log.error("%s: job %s is no batch's, and is refused: %s", self._config.name, job_id, error)

    def _show_as_started(self, batch: TakenBatch) -> Execution | None:
        with self._outliving_the_server():
            job = self._fetch(batch.id.encode())
            if job is not None:
                execution = self.prepare_execution(job)
                self.prepare_job_execution(job)
                return execution
        return None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run a job. If the server goes away before it is done, the batch is run again elsewhere."""
        try:
            with self._outliving_the_server():
                super().execute_job(job, queue)
        finally:
            if isinstance(job, BatchJob) and job.end is not None:
                job.end.release()

    def prepare_execution(self, job: Job) -> Execution:
        """Show that a job is run, unless it has been shown already."""
        end = job.end if isinstance(job, BatchJob) else None
        return super().prepare_execution(job) if end is None or end.execution is None else end.execution

    def _end_what_is_shown(self) -> None:
        """End what is shown of a run which is over, where the server could not be told.

        RQ would take that for the job at hand, and stop no other.
        """
        for execution in list(self.executions.values()):
            with self._outliving_the_server(), self.connection.pipeline() as pipe:
                execution.delete(execution.job, pipe)
                pipe.execute(raise_on_error=False)
                del self.executions[execution.id]

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:  # noqa: ARG002 - RQ's signature
        """Stop the run that is going on: somebody has told RQ to stop its job, which RQ has noted."""
        self._started.stop(self._stopped_job_id, RunLimit.stop_current)

    def _do_chores(self) -> None:
        """What RQ does between jobs, once a second."""
        now = time.monotonic()
        if now < self._chores_at:
            return
        self._chores_at = now + _CHORES_SECONDS
        self.check_for_suspension(burst=False)  # which is RQ's heartbeat as well
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()
        with self._outliving_the_server():
            self.show_state(WorkerStatus.BUSY if self._counts.note(self.key) else WorkerStatus.IDLE)

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Report what went wrong with a job; a dead batch has been reported already."""
        match exc_info[1]:
            case JobRefused() | DeserializationError() as error:
                self._refuse(job.id, error.__cause__ or error)
            case BatchDead(parts=parts):
                for part, failure in parts:
                    show_as_failed(self._config, job, part, failure)
            case MicrobatchError() as error:  # a batch that can't be read, or a server that refuses
                log.error("%s: batch %s: %s", self._config.name, job.id, error)
            case _:
                super().handle_exception(job, *exc_info)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Any = None,
    ) -> None:
        """Note a failure in RQ, which can't store every string that an error may quote."""
        super().handle_job_failure(job, queue, started_job_registry, storable(exc_string), execution)

    def request_force_stop(self, signum: int, frame: Any) -> None:
        """End at once, when told to stop for the second time: the batch in hand is run again elsewhere.

        RQ raises SystemExit, which the processor that is at it would be blamed for.
        """
        try:
            super().request_force_stop(signum, frame)
        except SystemExit:
            log.warning("%s: stopping hard: the batch in hand is run again elsewhere", self._config.name)
            os._exit(1)

    def _shutdown(self) -> None:
        """Called by RQ's signal handler: stop when the batch in hand, if any, is finished."""
        self._stop_requested = True

    def _is_to_stop(self) -> bool:
        return self._stop_requested


def _keys(queue: Queue) -> RqKeys:
    return RqKeys(queue.key, queue.intermediate_queue_key, queue.finished_job_registry.key, BatchJob.key_for)


def work(config: Config) -> None:
    """Run batches in this process until SIGTERM or SIGINT; a second one ends it at once.

    Raises:
        ConfigError: the config has no server, or no processor that can be called.
        ServerError: the server can't be reached.
    """
    server = Server.at(config.required_url())
    worker = BatchWorker(runner_of_this_process(), server)
    signals_end_forks(worker)
    with server.translated():
        worker.work(logging_level="WARNING")
