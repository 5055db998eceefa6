"""What a command makes sure of before it starts processes, so that what is wrong is said once."""

from __future__ import annotations

from microbatch.broker.config import Config
from microbatch.worker.runner import BatchRunner


def check_runnable(config: Config) -> None:
    """See that a worker could run the batches of ``config``.

    Raises:
        ConfigError: there is no processor, it can't be used, or there is no server.
        ServerError: the server can't be reached or used.
    """
    runner = BatchRunner(config)
    try:
        runner.broker.server.check_version()
    finally:
        runner.broker.close()
