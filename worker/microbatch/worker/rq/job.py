"""RQ's job class for batches: it runs a batch and nothing else.

A job's hash may name any function, callback or webhook, so anybody who can write to Redis could run any code.
`BatchJob` keeps none of them. It relies on ``Job.restore`` and ``Job.perform`` of RQ 3.0, on the names of a
job's fields, and on the attributes for when it began and what it returned (``started_at``, ``_result``).
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
# The fields that a batch's job needs: no callbacks, webhooks, repeats or dependencies.
_FIELDS = frozenset(
    b"created_at enqueued_at started_at ended_at last_heartbeat worker_name status origin description "
    b"data timeout result_ttl failure_ttl".split()
)
_LARGEST_PAYLOAD = 10_000  # bytes; a batch's payload has some hundred


class JobRefused(DecodeError):
    """A job on the batcher's queue is not a batch's job."""


@dataclass(frozen=True, slots=True)
class End:
    """How the run of a batch ended, and how that was recorded."""

    began: datetime
    said: RunReport | BaseException
    """What became of the batch, or why that could not be recorded."""
    execution: Execution | None = None
    """RQ's record of the run, if the run was shown."""

    def release(self) -> None:
        """Release the memory that the raised error holds. Call it once RQ has been told."""
        error = self.said if isinstance(self.said, BaseException) else self.said.error
        if error is not None:
            release(error)


class BatchJob(Job):
    """A job that can only be a batch's."""

    end: End | None = None
    """How the run ended, if the batch has been run already. Performing the job then only reports that."""

    def restore(self, raw_data: Any) -> None:
        """Read the job, without the fields that could make RQ run or call something else."""
        if len(raw_data.get(b"data", b"")) > _LARGEST_PAYLOAD:
            raise JobRefused("its payload is larger than any batch's")
        try:
            super().restore({name: value for name, value in raw_data.items() if name in _FIELDS})
        except (TimeoutFormatError, AssertionError) as error:  # RQ raises these for a bad time limit
            raise JobRefused(f"its time limit is not valid: {error}") from error

    def perform(self) -> str:
        """Run the batch, or report its end. Raises JobRefused if the job names any other function."""
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
