"""The job: the function that RQ calls for each batch, and the only one that a worker runs.

The job does not say what code processes the batch. The processor is that of the worker's own app, which the
environment variable ``MICROBATCH_APP`` names. So a stock ``rq worker`` can run batches too.
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
    """Run one batch and record its outcome. Returns a text about the outcome, for RQ to show.

    ``enqueued_at``: when the job was enqueued. If the batch died before, a person has requeued it by hand;
    otherwise this is a stray job.

    Raises:
        AppError: this worker's app is for another batcher.
        BatchDead: the batch, or a part of it, is dead.
    """
    runner = runner_of_this_process()
    if batcher != runner.config.name:
        raise AppError(f"this worker runs the batches of {runner.config.name!r}, not of {batcher!r}")
    return runner.run(batch_id, enqueued_at=enqueued_at).tell_rq()


def runner_of_this_process() -> BatchRunner:
    """The runner for the app that the environment names. Raises ConfigError and AppError."""
    return _runner(os.getpid())


@functools.lru_cache(maxsize=1)
def _runner(_pid: int) -> BatchRunner:
    """One runner per process: connections and threads don't survive a fork."""
    return BatchRunner(load_config_from_environment(), slot=slot_of_the_pool())
