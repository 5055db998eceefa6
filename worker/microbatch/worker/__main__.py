"""One worker process: ``python -m microbatch.worker APP``. The pool starts these."""

from __future__ import annotations

import logging
import os
import sys

from microbatch.broker.app import ENVIRONMENT_VARIABLE, load_config
from microbatch.broker.ending import end_with
from microbatch.broker.errors import MicrobatchError
from microbatch.broker.log_format import LEVEL_VARIABLE, log_to_standard_error
from microbatch.broker.plain import plain
from microbatch.worker.membership import join_pool
from microbatch.worker.rq_worker import work


def main() -> int:
    """Run batches until told to stop. Returns the exit code."""
    join_pool()
    app = sys.argv[1]
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


if __name__ == "__main__":
    end_with(main)
