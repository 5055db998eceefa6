"""``python -m microbatch.worker APP``: the imports of a worker process, and its start."""

import sys

from microbatch.broker.process.imports import collector_paused
from microbatch.worker.membership import join_pool

if __name__ == "__main__":
    join_pool()  # first: the imports take half a second, in which the pool may end
    with collector_paused():
        from microbatch.broker.process.ending import end_with
        from microbatch.worker.process import main
    end_with(lambda: main(sys.argv[1]))
