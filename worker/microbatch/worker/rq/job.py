"""RQ's job class for batches: it runs a batch and nothing else.

A job's hash may name any function, callback or webhook, so anybody who can write to Redis could have anything
run. `BatchJob` keeps none of them. It relies on ``Job.restore`` and ``Job.perform`` of RQ 3.0, on the names
of a job's fields, and on what says when it was begun and what it returned (``started_at``, ``_result``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rq.exceptions import TimeoutFormatError
from rq.executions import Execution
from rq.job import Job

from microbatch.broker.errors import DecodeError
from microbatch.broker.process.frames import release
from microbatch.worker.job import run_batch
from microbatch.worker.run_report import RunReport

JOB_FUNCTION = f"{run_batch.__module__}.{run_batch.__qualname__}"
# Of a job's fields those that a batch's job has use for: no callbacks, webhooks, repeats, dependencies.
_FIELDS = frozenset(
    b"created_at enqueued_at started_at ended_at last_heartbeat worker_name status origin description "
    b"data timeout result_ttl failure_ttl".split()
)
_LARGEST_PAYLOAD = 10_000  # bytes; a batch's has some hundred


class JobRefused(DecodeError):
    """A job on the batcher's queue is not a batch's."""


@dataclass(frozen=True, slots=True)
class End:
    """How the run of a batch ended, and was recorded."""

    began: datetime
    said: RunReport | BaseException
    """What became of it, or why that could not be recorded."""
    execution: Execution | None = None
    """What shows the run in RQ, if it has been shown."""

    def release(self) -> None:
        """Let go of the memory that what was raised holds. RQ has been told."""
        error = self.said if isinstance(self.said, BaseException) else self.said.error
        if error is not None:
            release(error)


class BatchJob(Job):
    """A job that can only be a batch's."""

    end: End | None = None
    """Where the batch has been run already, how that ended; then to perform the job is to tell that."""

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
        if self.end is not None:
            self.started_at = self.end.began
            if isinstance(self.end.said, BaseException):
                raise self.end.said
            self._result = self.end.said.tell_rq()
            return self._result
        arguments = self.args
        if self.func_name != JOB_FUNCTION or self.kwargs or len(arguments) != 2:
            raise JobRefused(f"this worker runs nothing but batches, not {self.func_name!r}")
        self._result = run_batch(str(arguments[0]), str(arguments[1]), enqueued_at=self.enqueued_at)
        return self._result
