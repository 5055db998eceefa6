"""What RQ knows about a batcher's workers and jobs.

Besides the dashboard, this is the only module of ops that uses RQ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from rq import Queue, Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError, Refused
from microbatch.broker.transport.request import commands

_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class WorkerFact:
    """One worker process, as it has registered itself."""

    name: str
    state: str
    batch: str | None
    """The id of the batch that it is running."""
    heartbeat_ms: int | None
    """When RQ last heard from it, in unix milliseconds of the worker's own clock."""


def workers_of(broker: Broker) -> list[WorkerFact]:
    """The workers of a batcher, by name.

    Raises ServerError if the server can't be asked, and DecodeError if RQ can't read the workers' keys.
    """
    try:
        with broker.server.translated():
            facts = [
                WorkerFact(
                    name=worker.name,
                    state=str(worker.get_state()),
                    batch=worker.get_current_job_id(),
                    heartbeat_ms=_unix_ms(worker.last_heartbeat),
                )
                for worker in Worker.all(queue=_queue(broker), serializer=JSONSerializer)
            ]
    except ValueError as error:
        raise DecodeError(f"RQ can't read the workers in rq:workers:{broker.keys.queue}: {error}") from error
    return sorted(facts, key=lambda fact: fact.name)


def _unix_ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def queued_jobs(broker: Broker) -> Iterator[bytes]:
    """The ids of the jobs that wait for a worker, as bytes, because they may not be text.

    Jobs that move up in the queue meanwhile may be missed. Raises ServerError if the server can't be asked.
    """
    page: list[bytes] = []
    for start in count(0, _PAGE):
        page = broker.server.do("LRANGE", _queue(broker).key, start, start + _PAGE - 1)
        yield from page
        if len(page) < _PAGE:
            return


def forget_job(broker: Broker, job_id: bytes) -> None:
    """Delete everything that RQ holds about a job, if anything. The id may be any bytes.

    Raises ServerError if the server can't be asked.
    """
    server, queue = broker.server, _queue(broker)
    lists = ("LREM", queue.key, 0, job_id), ("ZREM", queue.failed_job_registry.key, job_id)
    server.perform(commands(*lists))
    try:
        with server.translated():
            Job.fetch(job_id.decode(), connection=server.client, serializer=JSONSerializer).delete()
    except NoSuchJobError:
        return
    except (ValueError, TypeError, KeyError, Refused):  # RQ can't read this job
        server.do("UNLINK", Job.key_for(job_id.decode("utf-8", "replace")))


def _queue(broker: Broker) -> Queue:
    return Queue(broker.keys.queue, connection=broker.server.client, serializer=JSONSerializer)
