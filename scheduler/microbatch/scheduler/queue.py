"""RQ's queue: where a batch's job waits for a worker. The only module of the scheduler that uses RQ.

A job is JSON and contains the batch's id, never its events. A job is only a hint to run a batch, because the
ledger is the source of truth. A job that is lost is enqueued again, and a duplicate job does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from rq import Queue, Worker
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.worker_registration import clean_worker_registry

from microbatch.broker.app.config import Config
from microbatch.broker.policy.timing import Timing
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Command, commands
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.in_flight import DueBatch, NewBatch

JOB_FUNCTION = "microbatch.worker.job.run_batch"
_PAGE = 10_000  # jobs read at once
_OVERLAP = 1_000  # jobs that workers may take between two pages, which moves the later jobs up
_FAILURE_SECONDS = 7 * 24 * 3600  # how long a dead batch's job is kept


@dataclass(frozen=True, slots=True)
class Jobs:
    """Where the jobs of some batches are."""

    queued: frozenset[str]
    """The batches, of those asked for, whose job waits for a worker."""
    on_the_way: frozenset[str]
    """All batches whose job a worker has removed from the queue and has not started yet."""


class JobQueue:
    """The RQ queue of one batcher.

    Args:
        config: the batcher's settings.
        server: the server that has the queue.
        finished_seconds: how long the hash of a finished job is kept.
    """

    def __init__(
        self, config: Config, server: Server, finished_seconds: int = Timing.finished_job_seconds
    ) -> None:
        self._server = server
        self._name = config.name
        self._timeout = config.batch_timeout
        self._finished_seconds = finished_seconds
        queue = Keys(config.key_prefix, config.name).queue
        self._queue = Queue(queue, connection=server.client, serializer=JSONSerializer)

    def prepare(self) -> None:
        """Make RQ ask the server for its version now; otherwise RQ asks inside a transaction."""
        with self._server.translated():
            self._queue.get_redis_server_version()

    def to_enqueue(self, batches: Sequence[NewBatch | DueBatch], *, at_front: bool = False) -> list[Command]:
        """RQ's own commands that enqueue the jobs of these batches, for the caller's transaction."""
        pipe = self._server.client.pipeline()
        self._queue.enqueue_many(
            [
                Queue.prepare_data(
                    JOB_FUNCTION,
                    args=(self._name, batch.id),
                    job_id=batch.id,
                    timeout=self._timeout,
                    result_ttl=self._finished_seconds,
                    failure_ttl=_FAILURE_SECONDS,
                    description=_describe(
                        self._name, batch, batch.then.attempt if isinstance(batch, DueBatch) else 1
                    ),
                    at_front=at_front,
                )
                for batch in batches
            ],
            pipeline=pipe,
        )
        return [command for command, _ in pipe.command_stack]

    def to_enqueue_again(self, batches: Sequence[DueBatch], *, at_front: bool) -> list[Command]:
        """Like `to_enqueue`, for batches that had a job before. What RQ still has of that job is deleted.

        With ``at_front``, the jobs go before all jobs that wait: these batches have waited for longer.
        """
        pipe = self._server.client.pipeline()
        for batch in batches:
            self._queue.failed_job_registry.remove(batch.id, pipeline=pipe)
            pipe.lrem(self._queue.intermediate_queue_key, 0, batch.id)
            pipe.delete(Job.key_for(batch.id))  # the hash of a job that has ended would stay until it expires
        return [*(command for command, _ in pipe.command_stack), *self.to_enqueue(batches, at_front=at_front)]

    def forget(self, batches: Sequence[NewBatch]) -> None:
        """Remove the jobs of batches that were not made. Nothing is sent if there are none."""
        if not batches:
            return
        changes: list[Command] = []
        for batch in batches:
            # A worker that has already received the job finds nothing to do.
            changes.append(("LREM", self._queue.key, -1, batch.id))
            changes.append(("DEL", Job.key_for(batch.id)))
        self._server.perform(commands(*changes))

    def forget_failed(self, batch_ids: Sequence[str]) -> None:
        """Remove these batches from RQ's failed jobs. Nothing is sent if there are none."""
        if not batch_ids:
            return
        jobs = [Job.key_for(batch_id) for batch_id in batch_ids]
        results = [Result.get_key(batch_id) for batch_id in batch_ids]  # type: ignore[no-untyped-call]
        failed = self._queue.failed_job_registry.key
        self._server.perform(commands(("ZREM", failed, *batch_ids), ("UNLINK", *jobs, *results)))

    def forget_runs(self, batch_ids: Sequence[str]) -> None:
        """Remove the runs of these batches from RQ's registry, because their workers are gone.

        Nothing is sent if there are no batches.
        """
        if not batch_ids:
            return
        client, started = self._server.client, self._queue.started_job_registry.key
        registries = [ExecutionRegistry(batch_id, client).key for batch_id in batch_ids]
        found = self._server.perform(commands(*(("ZRANGE", registry, 0, -1) for registry in registries)))
        changes: list[Command] = []
        for batch_id, registry, raw_ids in zip(batch_ids, registries, found, strict=True):
            for run_id in _texts(raw_ids):
                run = Execution(run_id, batch_id, client)
                changes += [("ZREM", started, run.composite_key), ("UNLINK", run.key, registry)]
        if changes:
            self._server.perform(commands(*changes))

    def workers(self) -> int:
        """How many workers of this queue RQ's registry has."""
        with self._server.translated():
            return Worker.count(queue=self._queue)

    def length(self) -> int:
        """How many jobs wait for a worker."""
        return int(self._server.do("LLEN", self._queue.key))

    def tidy_workers(self) -> None:
        """Remove the names of workers that no longer exist from RQ's registry."""
        with self._server.translated():
            clean_worker_registry(self._queue)

    def show_as_failed(self, batch: DueBatch, failure: Failure) -> None:
        """Add a dead batch to RQ's failed jobs, where people look for it."""
        job = Job.create(
            JOB_FUNCTION,
            args=(self._name, batch.id),
            id=batch.id,
            origin=self._queue.name,
            timeout=self._timeout,
            failure_ttl=_FAILURE_SECONDS,
            description=_describe(self._name, batch, failure.attempts),
            status=JobStatus.FAILED,
            connection=self._server.client,
            serializer=JSONSerializer,
        )
        with self._server.translated():
            self._queue.failed_job_registry.add(job, ttl=_FAILURE_SECONDS)
            Result.create_failure(job, ttl=_FAILURE_SECONDS, exc_string=failure.error)

    def tidy(self) -> None:
        """Remove expired jobs from RQ's finished jobs. RQ's own workers do so every ten minutes."""
        with self._server.translated():
            self._queue.finished_job_registry.cleanup()

    def jobs(self, batch_ids: Collection[str], between_pages: Callable[[], None]) -> Jobs:
        """Where the jobs of these batches are. The queue is read in pages, as far as needed.

        A job that a worker removes meanwhile is seen on its way. If a job is missed nevertheless, it is
        enqueued twice, which does no harm.
        """
        missing, start = set(batch_ids), 0
        while True:
            # Not with RQ's own methods, which fail at an id that is not text.
            look = commands(
                ("LRANGE", self._queue.key, start, start + _PAGE - 1),
                ("LRANGE", self._queue.intermediate_queue_key, 0, -1),
            )
            page, on_the_way = self._server.perform(look)
            missing.difference_update(_texts(page))
            if not missing or len(page) < _PAGE:
                queued = frozenset(batch_ids).difference(missing)
                return Jobs(queued, frozenset(_texts(on_the_way)))
            start += _PAGE - _OVERLAP
            between_pages()


def _describe(name: str, batch: NewBatch | DueBatch, attempt: int) -> str:
    events = "1 event" if batch.header.size == 1 else f"{batch.header.size:,} events"
    text = f"{name}: a batch of {events}, cut by {batch.header.trigger}"
    return f"{text}, attempt {attempt}" if attempt > 1 else text


def _texts(raw_ids: Sequence[bytes]) -> Iterator[str]:
    return (raw.decode("latin-1") for raw in raw_ids)
