"""The main function of a worker process."""

from __future__ import annotations

import logging
import os
import sys

from microbatch.broker.app.loading import ENVIRONMENT_VARIABLE, load_config
from microbatch.broker.errors import MicrobatchError
from microbatch.broker.process.log_format import LEVEL_VARIABLE, log_to_standard_error
from microbatch.broker.process.plain import plain
from microbatch.worker.rq.worker import work


def main(app: str) -> int:
    """Run the batches of ``app`` until told to stop. Returns the exit code."""
    os.environ[ENVIRONMENT_VARIABLE] = app
    level = os.environ.get(LEVEL_VARIABLE, "INFO").upper()
    log_to_standard_error()
    logging.getLogger().setLevel(level)
    try:
        work(load_config(app))
    except MicrobatchError as error:
        sys.stderr.write(plain(f"microbatch worker: {' '.join(str(error).split())}\n"))
        return 2
    return 0
