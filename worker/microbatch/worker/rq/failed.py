"""Shows dead parts of batches among RQ's failed jobs."""

from __future__ import annotations

from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from microbatch.broker.app.config import Config
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.in_flight import Part
from microbatch.broker.wire.text import shortened
from microbatch.worker.rq.job import JOB_FUNCTION, BatchJob


def show_as_failed(config: Config, whole: Job, part: Part, failure: Failure) -> None:
    """Add a dead part of a batch to RQ's failed jobs, like a dead batch."""
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
    """The text, shortened as errors are elsewhere, and safe to store as UTF-8.

    Lone surrogates, which undecodable file names contain, are written as escapes.
    """
    return shortened(text).encode("utf-8", "backslashreplace").decode()
