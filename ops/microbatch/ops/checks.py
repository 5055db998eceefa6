"""Checks that a command makes before it starts processes."""

from __future__ import annotations

from microbatch.broker.app.config import Config
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.worker.runner import BatchRunner


def check_runnable(config: Config, *, wait: float | None = 0.0) -> str:
    """Check that a worker can run the batches of ``config``. Returns the server's address, fit to be shown.

    It waits up to ``wait`` seconds for a server that is away; None: for as long as it takes.

    Raises:
        ConfigError: there is no processor, it can't be used, or there is no server.
        ServerError: the server can't be reached or used.
    """
    runner = BatchRunner(config)
    try:
        retry_until_answered(config.name, runner.broker.server.check_version, wait)
        return runner.broker.server.where
    finally:
        runner.broker.close()
