"""What a command checks before it starts processes."""

from __future__ import annotations

from microbatch.broker.app.config import Config
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.worker.runner import BatchRunner


def check_runnable(config: Config, *, wait: float | None = 0.0) -> str:
    """See that a worker could run the batches of ``config``. Returns where its server is, to be shown.

    A server that is away is waited for, for ``wait`` seconds; None: for as long as it takes.

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
