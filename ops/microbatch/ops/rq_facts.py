"""What RQ knows of a batcher's workers. Besides the dashboard, the only module here that speaks RQ."""

from __future__ import annotations

from dataclasses import dataclass

from rq import Queue, Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from microbatch.broker.broker import Broker


@dataclass(frozen=True, slots=True)
class WorkerFact:
    """One worker process, as it has registered itself."""

    name: str
    state: str
    batch: str | None
    """The id of the batch that it is running."""
    heartbeat_ms: int | None
    """When it last showed itself, in unix milliseconds of its own clock."""


def workers_of(broker: Broker) -> list[WorkerFact]:
    """The workers of a batcher, by name. Raises ServerError if the server can't be asked."""
    with broker.server.translated():
        workers = Worker.all(queue=_queue(broker), serializer=JSONSerializer)
        facts = [
            WorkerFact(
                name=worker.name,
                state=str(worker.get_state()),
                batch=worker.get_current_job_id(),
                heartbeat_ms=int(worker.last_heartbeat.timestamp() * 1000) if worker.last_heartbeat else None,
            )
            for worker in workers
        ]
    return sorted(facts, key=lambda fact: fact.name)


def queued_jobs(broker: Broker) -> list[str]:
    """The ids of the jobs that wait for a worker. Raises ServerError if the server can't be asked."""
    with broker.server.translated():
        return _queue(broker).get_job_ids()


def forget_job(broker: Broker, job_id: str) -> None:
    """Delete what RQ holds of a job, if anything. Raises ServerError if the server can't be asked."""
    queue = _queue(broker)
    with broker.server.translated():
        queue.remove(job_id)
        queue.failed_job_registry.remove(job_id)
        try:
            Job.fetch(job_id, connection=broker.server.client, serializer=JSONSerializer).delete()
        except NoSuchJobError:
            return


def _queue(broker: Broker) -> Queue:
    return Queue(broker.config.name, connection=broker.server.client, serializer=JSONSerializer)
