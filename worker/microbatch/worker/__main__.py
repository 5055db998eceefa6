"""``python -m microbatch.worker APP``: a worker process without a pool."""

import sys

from microbatch.broker.process.imports import collector_paused

if __name__ == "__main__":
    with collector_paused():
        from microbatch.broker.process.ending import end_with
        from microbatch.worker.process import main
    end_with(lambda: main(sys.argv[1]))
