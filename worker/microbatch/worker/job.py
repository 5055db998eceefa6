"""The job: what RQ calls for each batch. The one function that a worker runs.

Nothing in it says what code processes the batch. That is the processor of the worker's own app, which
the environment's ``MICROBATCH_APP`` names; a stock ``rq worker`` runs batches by it as well.
"""

from __future__ import annotations

import functools
import os
from datetime import datetime

from microbatch.broker.app.loading import load_config_from_environment
from microbatch.broker.errors import AppError
from microbatch.worker.membership import slot_of_the_pool
from microbatch.worker.runner import BatchRunner


def run_batch(batcher: str, batch_id: str, *, enqueued_at: datetime | None = None) -> str:
    """Run one batch and record its outcome. Returns what came of it, for RQ to show.

    ``enqueued_at`` tells a dead batch that somebody has requeued from a stray job of before its death.

    Raises:
        AppError: this worker's app is for another batcher.
        BatchDead: the processor failed for the last time.
    """
    runner = runner_of_this_process()
    if batcher != runner.config.name:
        raise AppError(f"this worker runs the batches of {runner.config.name!r}, not of {batcher!r}")
    return runner.run(batch_id, enqueued_at=enqueued_at).tell_rq()


def runner_of_this_process() -> BatchRunner:
    """What runs the batches of the app that the environment names. Raises ConfigError and AppError."""
    return _runner(os.getpid())


@functools.lru_cache(maxsize=1)
def _runner(_pid: int) -> BatchRunner:
    """One per process: connections and threads don't cross a fork."""
    return BatchRunner(load_config_from_environment(), slot=slot_of_the_pool())
