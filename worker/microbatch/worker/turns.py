"""Turns: from one batch to the next in one round trip.

    end    commit the batch before  +  its job is finished  +  take the next batch whose job waits

An idle worker waits for a job, and takes its batch, in one round trip as well. A job leaves RQ's queue in the
script that takes its batch, so there is no moment at which it is on its way.

RQ's own worker spends some sixty commands in over twenty round trips on a job. Here a batch whose run
succeeds takes five, and leaves RQ's keys as RQ would leave them. Everything else goes RQ's own way.

What this knows of RQ (3.0), beside the names of its keys, which it is given:

- A queue is a list of jobs' ids, whose first is taken next. A worker moves it to the end of the queue's
  intermediate list, and takes it from there once it has the job; so does this one with what is no batch.
- A job is a hash with the fields ``status``, ``worker_name``, ``started_at``, ``ended_at`` and
  ``last_heartbeat``; a finished one expires when its result does.
- The registry of finished jobs is a sorted set, scored by when each expires (unix seconds).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from microbatch.broker.exchange import Value
from microbatch.broker.in_flight import Next
from microbatch.broker.server import Along
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

    Raises, from every method, ServerError; a batch that was taken then is found by the scheduler.
    """

    def __init__(self, runner: BatchRunner, keys: RqKeys, worker: str) -> None:
        self._runner = runner
        self._ledger = runner.broker.ledger
        self._keys = keys
        self._worker = worker
        self._own = f"{keys.intermediate}:{worker}"  # holds an id only from one command to the next

    def wait(self, seconds: float) -> Next:
        """What to do next; waits for a job. None if none came."""
        keys = self._keys
        move = ("BLMOVE", keys.queue, self._own, "LEFT", "RIGHT", seconds)
        return self._ledger.take_next(self._own, keys.intermediate, self._runner.claim(), first=move)

    def end(self, run: Run, began: float, *, go_on: bool) -> Next:
        """Commit a run that has succeeded, and note its job as finished.

        ``began`` is when the run did (unix seconds). Returns what to do next, as `wait` does, if that is
        asked for by ``go_on`` and a job waits.
        """
        keys, job_key, now = self._keys, self._keys.job(run.batch.id), time.time()
        ended = _moment(now)
        commands: list[Sequence[Value]] = [
            (
                "HSET", job_key, "status", "finished", "worker_name", self._worker,
                "started_at", _moment(began), "ended_at", ended, "last_heartbeat", ended,
            ),
            ("EXPIRE", job_key, FINISHED_SECONDS, "NX"),  # not that of a batch which is dead meanwhile
            ("ZADD", keys.finished, int(now) + FINISHED_SECONDS, run.batch.id),
        ]  # fmt: skip
        along: list[Along] = []

        def next_try() -> Along:
            then = commands
            if go_on:
                then = [
                    *commands,
                    self._ledger.next_command(keys.queue, keys.intermediate, self._runner.claim()),
                ]
            along.append(Along(*then))
            return along[-1]

        self._runner.commit(run, next_try)
        reply = along[-1].replies[-1] if go_on else None
        # It may be an error: `wait` comes to the same then, and raises it.
        return None if isinstance(reply, Exception) else self._ledger.read_next(reply)


def _moment(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
