"""Turns: from one batch to the next in two round trips.

    end    commit the batch before  +  its job is finished  +  move the next job's id on its way
    begin  take that batch, with its events                 +  its job has arrived

RQ's own worker spends some sixty commands in over twenty round trips on a job. Here a batch whose run
succeeds takes seven, in two, and leaves RQ's keys as RQ would leave them. Everything else goes RQ's own way.

What this knows of RQ (3.0), beside the names of its keys, which it is given:

- A queue is a list of jobs' ids. A worker moves the first to the end of the queue's intermediate list, and
  takes it from there once it has the job.
- A job is a hash with the fields ``status``, ``worker_name``, ``started_at``, ``ended_at`` and
  ``last_heartbeat``; a finished one expires when its result does.
- The registry of finished jobs is a sorted set, scored by when each expires (unix seconds).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from microbatch.broker import wire
from microbatch.broker.errors import DecodeError, Refused
from microbatch.broker.ledger import TakenBatch
from microbatch.broker.server import Along, Server
from microbatch.worker.runner import BatchRunner, Run

FINISHED_SECONDS = 10
"""How long a finished job can be looked at; the scheduler enqueues it with the same."""


@dataclass(frozen=True, slots=True)
class RqKeys:
    """RQ's names of what a queue's worker touches."""

    queue: str
    intermediate: str
    finished: str
    job: Callable[[str], str]


class Turns:
    """One worker's turns at one queue.

    Raises, from every method, ServerError; a job's id that was on its way then is found by the scheduler.
    """

    def __init__(self, runner: BatchRunner, server: Server, keys: RqKeys, worker: str) -> None:
        self._runner = runner
        self._server = server
        self._keys = keys
        self._worker = worker

    def wait(self, seconds: int) -> bytes | None:
        """The next job's id, now on its way to this worker; waits for one. None if none came."""
        keys = self._keys
        job_id: bytes | None = self._server.do(
            "BLMOVE", keys.queue, keys.intermediate, "LEFT", "RIGHT", seconds
        )
        return job_id

    def give_back(self, job_id: bytes) -> None:
        """Put a job's id that was on its way back to the head of the queue."""
        keys = self._keys
        self._server.transact(("LREM", keys.intermediate, 1, job_id), ("LPUSH", keys.queue, job_id))

    def begin(self, job_id: bytes) -> TakenBatch | None:
        """Take the batch whose job this is, for a run. None if it is none's, or there is nothing to run."""
        batch_id = job_id.decode("latin-1")
        if not wire.is_batch_id(batch_id):
            return None
        try:
            return self._runner.take(batch_id, Along(("LREM", self._keys.intermediate, 1, job_id)))
        except (DecodeError, Refused):  # which RQ is to show; so it comes to the same once more
            return None

    def end(self, run: Run, began: float, *, go_on: bool) -> bytes | None:
        """Commit a run that has succeeded, and note its job as finished.

        ``began`` is when the run did (unix seconds). Returns the next job's id as `wait` does, if that is
        asked for by ``go_on`` and one waits.
        """
        keys, job_key, now = self._keys, self._keys.job(run.batch.id), time.time()
        ended = _moment(now)
        commands = [
            (
                "HSET", job_key, "status", "finished", "worker_name", self._worker,
                "started_at", _moment(began), "ended_at", ended, "last_heartbeat", ended,
            ),
            ("EXPIRE", job_key, FINISHED_SECONDS),
            ("ZADD", keys.finished, int(now) + FINISHED_SECONDS, run.batch.id),
        ]  # fmt: skip
        if go_on:
            commands.append(("LMOVE", keys.queue, keys.intermediate, "LEFT", "RIGHT"))
        along: list[Along] = []

        def next_try() -> Along:
            along.append(Along(*commands))
            return along[-1]

        self._runner.commit(run, next_try)
        job_id = along[-1].replies[-1] if go_on else None
        return job_id if isinstance(job_id, bytes) else None


def _moment(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
