"""celery-batches as it is measured: workers in the peers' venv, on their own server."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.measure import Figures
from benchmarks.processes import PEERS_PYTHON, Producer, running, server, wait_until
from benchmarks.streams import read_sums
from benchmarks.tally import Tally

_APP = "benchmarks.peers.celery_app"
_OPTIONS = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]


class CeleryBatches:
    """Celery workers with a task that processes batches.

    Args:
        workers: the number of worker programs.
        concurrency: the number of processes of each program.
        prefetch: how many messages a program may hold, as a multiple of its processes.
    """

    def __init__(
        self, stack: ExitStack, *, flush_every: int, workers: int, concurrency: int, prefetch: int
    ) -> None:
        self._server = stack.enter_context(server())
        self._variables: dict[str, str | int] = {
            "BENCH_URL": self._server.url,
            "BENCH_FLUSH_EVERY": flush_every,
            "BENCH_PREFETCH": prefetch,
            "PYTHONWARNINGS": "ignore",  # it may run as root here
        }
        for number in range(workers):
            command = [PEERS_PYTHON, "-m", "celery", "-A", _APP, "worker", *_OPTIONS]
            command += ["--concurrency", str(concurrency), "--hostname", f"worker{number}"]
            stack.enter_context(running(*command, **self._variables))
        wait_until(lambda: int(self._server.admin.get("ready") or 0) == workers, "Celery's workers")

    def end_to_end(self, count: int) -> Figures:
        """Record ``count`` events in another process, and handle the results in this one."""
        tally = Tally(count)
        producer = Producer(PEERS_PYTHON, "-m", _APP, str(count), **self._variables)
        producer.go()
        read_sums(self._server.admin, "sums", tally)
        begun, ended = producer.moments()
        return {"processed/s": tally.rate_since(begun), "recorded/s": count / (ended - begun)}
