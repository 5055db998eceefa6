"""Growth with waiting events: a batch costs the same whether thousands of events wait or millions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import Ours
from benchmarks.processes import wait_until
from benchmarks.rows.cut import SIZE
from benchmarks.rows.run import rate
from microbatch.broker.state.wake import Wake
from microbatch.scheduler.scheduler import Scheduler

NAME = "growth-waiting"
TITLE = "time to cut, run and commit a batch of 30 with millions of events waiting, against 5,000"
FIGURE = "ms/batch"
LEAST, MOST = "fewest waiting", "most waiting"
CLAIMS = (Claim(FIGURE, MOST, 1.2, LEAST, at_most=True),)
_FEWEST = 5_000
_BATCHES = 800
_CUT_SECONDS = 0.05
_NEVER = 10**9  # ms: no tick cuts the last few events that do not fill a batch
_MULTIPLY = """
local raws = redis.call('LRANGE', KEYS[1], 0, 999)
for _ = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], unpack(raws)) end
"""


def systems(scale: Scale, stack: ExitStack) -> Iterator[System]:
    for waiting in steps(_FEWEST, scale.backlog):
        name = {_FEWEST: LEAST, scale.backlog: MOST}.get(waiting, f"{waiting:,} waiting")
        yield System(name, _Backlog(stack, waiting).measure, first=_BATCHES)


def steps(least: int, most: int) -> list[int]:
    """From ``least`` to ``most``, each ten times the one before."""
    found = [least]
    while found[-1] * 10 < most:
        found.append(found[-1] * 10)
    return [*found, most]


class _Backlog:
    """A batcher on its own server, for which ``waiting`` events wait."""

    def __init__(self, stack: ExitStack, waiting: int) -> None:
        self._ours = ours = Ours(stack, max_size=SIZE, frequency=_NEVER)
        self._client: Any = ours.server.admin
        self._waiting = self._recorded = waiting
        self._cut = 0
        ours.fill(1_000)
        for some in range(1_000, waiting, 100_000):
            self._client.eval(_MULTIPLY, 1, ours.broker.keys.events, min(100, (waiting - some) // 1_000))
        assert ours.broker.events.waiting() == waiting

    def measure(self, batches: int) -> Figures:
        """Cut and run ``batches`` batches, or slightly more."""
        seconds, made, before = 0.0, 0, self._cut
        while made < batches:
            self._fill_up()
            took, cut = self._cut_for_a_while()
            seconds, made = seconds + took, made + cut
            self._cut += cut * SIZE
        cut_seconds, moments = seconds / made, list[float]()
        with self._ours.worker():
            wait_until(lambda: self._client.xlen(self._ours.broker.keys.results) >= made, "results")
        tally = self._ours.handle(made * SIZE, lambda at, _info: moments.append(at), after=before, stop=False)
        tally.check()
        run_seconds = 1 / rate(sorted(moments)[len(moments) // 2 :])  # a worker's first batches take longer
        return {
            FIGURE: (cut_seconds + run_seconds) * 1000,
            "of it cut": cut_seconds * 1000,
            "there": self._waiting,
        }

    def _fill_up(self) -> None:
        missing = self._waiting - (self._recorded - self._cut)
        self._ours.fill(missing, self._recorded)
        self._recorded += missing

    def _cut_for_a_while(self) -> tuple[float, int]:
        """Cut waiting events, but only for some milliseconds.

        Returns the duration and the number of batches.
        """
        scheduler = self._scheduler()
        self._ours.broker.wake.tell(Wake.SIZE)
        timer = threading.Timer(_CUT_SECONDS, scheduler.stop)
        timer.start()
        begun = time.perf_counter()
        made = scheduler.run_once()
        took = time.perf_counter() - begun
        timer.cancel()
        timer.join()
        scheduler.stop()
        scheduler.run()  # returns the lease
        return took, made

    def _scheduler(self) -> Scheduler:
        """A scheduler that became active while nothing could be cut, and no wake-up word was there."""
        events = self._ours.broker.keys.events
        self._client.delete(self._ours.broker.keys.wake)
        self._client.rename(events, "kept")
        scheduler = self._ours.scheduler()
        self._client.rename("kept", events)
        return scheduler
