"""What RQ knows of a batcher's workers. Besides the dashboard, the only module here that speaks RQ."""

from __future__ import annotations

from dataclasses import dataclass

from rq import Queue, Worker
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
        queue = Queue(broker.config.name, connection=broker.server.client, serializer=JSONSerializer)
        workers = Worker.all(queue=queue, serializer=JSONSerializer)
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
