"""Due times: the ledger's scores.

The score of a batch in flight says two things: what the batch waits for, and when the scheduler looks at it.
Each state has its own band of scores. So one sorted set tells, in O(log batches), which workers have gone
silent, which retries are due, and how many batches have a job.

    running     due - BAND   a worker has claimed it, and must show by then that it is alive
    queued      due          its job waits in RQ's queue, and is looked for then
    retrying    due + BAND   it has no job, and gets one then
"""

from __future__ import annotations

BAND_MS = 10**13
"""Later than every due time. As a time, it is in the year 2286."""
WITH_A_JOB = ("-inf", f"({BAND_MS}")
"""The range of scores of all batches that are queued or running."""


def running(due_ms: int) -> int:
    """The score of a batch whose worker must show itself before ``due_ms``."""
    return due_ms - BAND_MS


def queued(due_ms: int) -> int:
    """The score of a batch whose job is looked for at ``due_ms``."""
    return due_ms


def retrying(due_ms: int) -> int:
    """The score of a batch that is enqueued again at ``due_ms``."""
    return due_ms + BAND_MS


def due_ms(score: float) -> int:
    """When the scheduler looks at a batch with this score (unix ms). A score is clamped to the bands."""
    within = int(min(max(score, -BAND_MS), 2 * BAND_MS))
    return within - BAND_MS if within >= BAND_MS else within + BAND_MS if within < 0 else within
