"""Growth with batches in flight: a batch costs the same whether ten are in flight or ten thousand."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import UNBOUNDED, Ours
from benchmarks.processes import clear, wait_until
from benchmarks.rows.backlog import FIGURE, steps
from benchmarks.rows.cut import SIZE
from benchmarks.tally import check
from microbatch.scheduler.scheduler import Scheduler

NAME = "growth-in-flight"
TITLE = "the same with 10,000 batches in flight, against 10"
CLAIMS = (Claim(FIGURE, "10,000 in flight", 1.2, "10 in flight", at_most=True),)
_FEWEST, _MOST = 10, 10_000
_BATCHES = 100
_WARM_UP = 300
_RUN_UP = 50


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    # A scheduler here keeps its lease while it pauses for a worker to run what it has cut.
    ours = Ours(stack, max_size=SIZE, max_in_flight=UNBOUNDED, lease_ttl=600)
    for in_flight in steps(_FEWEST, _MOST):
        yield System(f"{in_flight:,} in flight", _InFlight(ours, in_flight).measure, first=_BATCHES)


class _InFlight:
    """``in_flight`` batches that are cut and wait for a worker."""

    def __init__(self, ours: Ours, in_flight: int) -> None:
        self._ours = ours
        self._client: Any = ours.server.admin
        self._in_flight = in_flight
        self._recorded = self._handled = 0

    def measure(self, batches: int) -> Figures:
        """Cut ``batches`` batches, ten at a time, and run as many, starting with ``in_flight`` in flight."""
        cut, run = self._cut(batches), self._run(batches)
        return {FIGURE: (cut + run) * 1000, "of it cut": cut * 1000, "there": self._in_flight}

    def _cut(self, batches: int) -> float:
        """Seconds per batch. Meanwhile, the number in flight grows by at most a tenth, or by ten."""
        seconds, made = 0.0, 0
        while made < batches:
            scheduler = self._begin()
            self._put_in_flight(scheduler, self._in_flight)
            for _ in range(min(batches, max(_FEWEST, self._in_flight // 10)) // _FEWEST):
                seconds += self._put_in_flight(scheduler, _FEWEST)
                made += _FEWEST
            ids = self._client.zcard(self._ours.broker.keys.inflight)
            check("events in flight", ids * SIZE, self._recorded)
            scheduler.broker.close()
        return seconds / made

    def _run(self, batches: int) -> float:
        """Seconds per batch, from one start of the processor to the next.

        A worker's first batches take longer, and so do the first after a pause. So the worker has always run
        as many batches when the measurement begins, however few are in flight. It stands still while the
        batches are cut, and runs some more before those that are measured.
        """
        scheduler, seconds, intervals = self._begin(), 0.0, 0
        with self._ours.worker() as worker:
            self._put_in_flight(scheduler, _WARM_UP)
            wait_until(lambda: self._results() >= _WARM_UP, "results")
            self._handle(_WARM_UP)
            while intervals < batches:
                worker.send_signal(signal.SIGSTOP)
                self._put_in_flight(scheduler, _RUN_UP + self._in_flight)
                worker.send_signal(signal.SIGCONT)
                wanted = _RUN_UP + min(self._in_flight, batches)
                wait_until(lambda wanted=wanted: self._results() >= wanted, "results")  # type: ignore[misc]
                if self._in_flight > batches:
                    worker.terminate()
                    worker.wait()
                moments = self._handle(self._results())[_RUN_UP - 1 : _RUN_UP + batches]
                seconds += moments[-1] - moments[0]
                intervals += len(moments) - 1
        scheduler.broker.close()
        return seconds / intervals

    def _handle(self, batches: int) -> list[float]:
        """Handle the results of ``batches`` more batches. Returns when they were run."""
        moments: list[float] = []
        self._ours.handle(
            batches * SIZE, lambda at, _info: moments.append(at), after=self._handled, stop=False
        ).check()
        self._handled += batches * SIZE
        return sorted(moments)

    def _results(self) -> int:
        return int(self._client.xlen(self._ours.broker.keys.results))

    def _begin(self) -> Scheduler:
        """An active scheduler, with nothing else on the server."""
        clear(self._client)
        self._recorded = self._handled = 0
        return self._ours.scheduler()

    def _put_in_flight(self, scheduler: Scheduler, batches: int) -> float:
        """Cut ``batches`` more batches. Returns how long it took."""
        self._ours.fill(batches * SIZE, self._recorded)
        self._recorded += batches * SIZE
        begun, made = time.perf_counter(), 0
        while made < batches:
            made += scheduler.run_once()
        return time.perf_counter() - begun
