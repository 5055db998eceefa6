"""RQ's worker class for batches.

What it changes, and the RQ internals (of 3.0) that this relies on:

- It claims batches from its queue itself (`Turns`). RQ's loop gets only jobs without a batch to run, and runs
  that failed or took long (``dequeue_job_and_maintain_ttl``, ``execute_job``; ``death_penalty_class``). What
  RQ does between jobs, it does once a second: the worker's state and counters, its heartbeat, suspension and
  maintenance (``check_for_suspension``, ``should_run_maintenance_tasks``, ``run_maintenance_tasks``).
- A run is shown as a started job once it takes long (``prepare_job_execution``). From then on RQ can be told
  to stop it (``kill_horse``, which RQ calls on the thread that listens, if ``get_current_job_id`` is that
  job's; ``_stopped_job_id``).
- It stops only between jobs. RQ's own worker may be interrupted after the server has handed out a job and
  before the job is marked as started (``_install_signal_handlers``, ``_stop_requested``). At a second signal
  it ends at once.

``tests/unit/test_rq_internals.py`` says which code in RQ uses each of these, and fails when that changes.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import time
from contextlib import closing
from datetime import UTC, datetime

from rq import Queue
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.worker import WorkerStatus

from microbatch.broker.app.config import Config
from microbatch.broker.errors import MicrobatchError, ServerError
from microbatch.broker.process.frames import release, release_locals
from microbatch.broker.process.loggable import trace
from microbatch.broker.process.loggers import keep_loggers
from microbatch.broker.process.signals import StopSignals
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.in_flight import ClaimedBatch
from microbatch.worker.failure_recorder import RunStopped
from microbatch.worker.job import runner_of_this_process
from microbatch.worker.rq.counters import Counters
from microbatch.worker.rq.job import BatchJob, End
from microbatch.worker.rq.limit import RunLimit
from microbatch.worker.rq.report import ReportingWorker
from microbatch.worker.rq.started import StartedRun
from microbatch.worker.run_report import RunReport
from microbatch.worker.runner import BatchRunner, Run
from microbatch.worker.turns import RqKeys, Turns

log = logging.getLogger(__name__)

_BLOCK_SECONDS = 1.0  # how soon an idle worker sees that it must stop
_SHORTEST_BLOCK_SECONDS = 0.01  # 0 would block forever
_CHORES_SECONDS = 1.0
_LISTED_SECONDS = 5.0  # how soon a worker is shown again by a server that came back empty
_GIVE_BACK_SECONDS = 3.0  # the longest that a hard stop tries to give the batch back


class BatchWorker(ReportingWorker):
    """One worker process of a batcher."""

    death_penalty_class = RunLimit

    def __init__(self, runner: BatchRunner, server: Server) -> None:
        self._runner = runner
        self._chores_at = 0.0
        self._listed_at = time.monotonic() + _LISTED_SECONDS
        self._counts = Counters(server)
        self._started = StartedRun(self._show_as_started)
        self._signals = StopSignals(on_first=self._note_stop)
        runner.run_watch.on_long_run = self._started.show
        runner.run_watch.on_beat = self._end_if_told_twice
        name = f"{runner.config.name}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        queue = Queue(
            runner.broker.keys.queue, connection=server.client, serializer=JSONSerializer, job_class=BatchJob
        )
        self._keys = RqKeys(
            queue.key, queue.intermediate_queue_key, queue.finished_job_registry.key, BatchJob.key_for("")
        )
        self._turns = Turns(runner, self._keys, name)
        super().__init__(queue, server, name, runner.broker)
        runner.run_watch.describe(self._keys.rq, self.key, self.listed_in)

    def dequeue_job_and_maintain_ttl(
        self,
        timeout: int | None,  # noqa: ARG002 - RQ's signature
        max_idle_time: int | None = None,  # noqa: ARG002
    ) -> tuple[Job, Queue] | None:
        """Run batches until the worker must stop. Wait for batches, and for a server that has gone away.

        Returns the next job that RQ itself must execute.
        """
        while not self._is_to_stop():
            self.end_what_is_shown()
            self._do_chores()
            try:
                with self._server.translated():
                    job = self._take_turns()
            except ServerError as error:
                time.sleep(self._backoff.failed(error))
                continue
            self._backoff.succeeded()
            if job is not None:
                return job, self.queues[0]
        with self._outliving_the_server():
            self._turns.leave()
        raise StopRequested

    def _take_turns(self) -> Job | None:
        """Run batch after batch, until none waits, chores are due, or RQ itself must execute a job."""
        seconds = min(_BLOCK_SECONDS, self._chores_at - time.monotonic())
        batch = self._turns.wait(max(seconds, _SHORTEST_BLOCK_SECONDS))
        while batch is not None:
            if isinstance(batch, bytes):
                return self.fetch(batch)
            began = time.time()
            with self._runner.run_watch.beating_for(batch):
                run = self._run(batch)
                execution = self._started.over()
                if run.error is not None or execution is not None:
                    end = End(datetime.fromtimestamp(began, UTC), self._settle(run), execution)
                    return self._job_of(batch.id, end)
                go_on = not self._is_to_stop() and time.monotonic() < self._chores_at
                try:
                    batch = self._turns.commit_and_claim_next(run, began, go_on=go_on)
                except ServerError:
                    self._give_back(run.batch)
                    raise
            self._counts.add(time.time() - began)
        return None

    def _run(self, batch: ClaimedBatch) -> Run:
        """Run a batch under its time limit."""
        self._started.begin(batch)
        limit = RunLimit(self._config.batch_timeout, JobTimeoutException)  # type: ignore[no-untyped-call]
        try:
            with limit:
                run = self._runner.process(batch)
        except (JobTimeoutException, RunStopped) as error:  # raised after the processor had returned
            run = Run(batch, error=error)
        if limit.raised is not None:
            # The run has failed even if the processor caught the exception.
            run, limit.raised = Run(batch, error=limit.raised), None
        if run.error is not None:
            release_locals(run.error)
        return run

    def _settle(self, run: Run) -> RunReport | BaseException:
        self.let_expire(run.batch.id)  # RQ is told afterwards, unless this process is killed first
        keep_loggers()  # the processor may have configured logging
        try:
            report = self._runner.record_outcome(run)
        except Exception as error:  # noqa: BLE001 - the worker must go on with other batches
            if not isinstance(error, MicrobatchError):
                name, batch_id = self._config.name, run.batch.id  # the batch is run again
                log.error("%s: batch %s: its end can't be recorded: %s", name, batch_id, trace(error))  # noqa: TRY400
            self._give_back(run.batch)
            release_locals(error)  # the traceback stays, for RQ to show; RQ drops it afterwards
            return error
        if report.is_dead and report.error is not None:
            release_locals(report.error)  # as above
        elif run.error is not None:
            release(run.error)
        return report

    def _give_back(self, batch: ClaimedBatch) -> None:
        """Give back a batch whose run was not recorded: it is run again, and counts as no worker's death."""
        with self._outliving_the_server():
            self._turns.give_back(batch, seconds=self._runner.broker.timing.run_ttl_ms / 1000)

    def _job_of(self, batch_id: str, end: End) -> BatchJob | None:
        """The job that tells RQ how a run ended; None if there is none."""
        job = self.fetch(batch_id.encode())
        if job is not None:
            job.end = end
        else:
            end.release()
        return job

    def _show_as_started(self, batch: ClaimedBatch) -> Execution | None:
        with self._outliving_the_server():
            job = self.fetch(batch.id.encode())
            if job is not None:
                execution = self.prepare_execution(job)
                self.prepare_job_execution(job)
                return execution
        return None

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:  # noqa: ARG002 - RQ's signature
        """Stop the current run: RQ was told to stop its job, and has noted the job's id."""
        self._started.stop(self._stopped_job_id, RunLimit.stop_current)

    def _do_chores(self) -> None:
        """Do what RQ does between jobs, once a second."""
        now = time.monotonic()
        if now < self._chores_at:
            return
        self._chores_at = now + _CHORES_SECONDS
        if now >= self._listed_at:
            self._listed_at = now + _LISTED_SECONDS
            self.be_listed()
        keep_loggers()
        self.check_for_suspension(burst=False)  # sends RQ's heartbeat too
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()
        with self._outliving_the_server():
            self.show_state(WorkerStatus.BUSY if self._counts.note(self.key) else WorkerStatus.IDLE)

    def _install_signal_handlers(self) -> None:
        """Note the stop signals. After the first, the batch in hand is finished.

        RQ's own handlers log and raise, which is not safe at every point of this worker.
        """
        self._signals.__enter__()
        self._signals.end_in_forks()

    def _note_stop(self) -> None:
        self._stop_requested = True

    def _is_to_stop(self) -> bool:
        return self._stop_requested

    def _end_if_told_twice(self) -> None:
        """End the process at a second stop signal. Called on the run watch's thread."""
        if self._signals.count > 1:
            log.warning("%s: stopping hard: the batch in hand is run again elsewhere", self._config.name)
            self._runner.run_watch.heartbeat.give_back(self._keys.rq, _GIVE_BACK_SECONDS)
            os._exit(1)


def work(config: Config) -> None:
    """Run batches in this process until SIGTERM, SIGINT or SIGHUP. A second signal ends it at once.

    Raises:
        ConfigError: the config has no server, or no processor that can be called.
        ServerError: the server can't be reached.
    """
    config.required_url()
    runner = runner_of_this_process()
    server = runner.broker.server  # one connection pool for both, so both notice a dead connection
    with server.translated(), closing(runner.run_watch):
        BatchWorker(runner, server).work(logging_level="WARNING")
