"""Recover: with a backlog, how long it takes until the batch of a killed worker is run again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks import holding
from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import Ours
from benchmarks.processes import PYTHON, clear, running, wait_until
from benchmarks.rows.longest_script import MULTIPLY

NAME = "recover"
TITLE = (
    "from the kill of a worker until its batch runs again, with 1,000 batches in flight and millions waiting"
)
FIGURE = "s"
CLAIMS = (Claim(FIGURE, "Microbatch", 15.0, at_most=True),)
SIZE = 30
_IN_FLIGHT = 1_000
_NEVER = 10**9  # ms: no tick cuts the backlog


def systems(scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack, max_size=SIZE, frequency=_NEVER, results_max=1)
    client: Any = ours.server.admin
    keys = ours.broker.keys

    def microbatch(waiting: int) -> Figures:
        clear(client)
        with running(PYTHON, "-m", "microbatch.ops", "scheduler", holding.APP, **ours.variables):
            ours.fill(_IN_FLIGHT * SIZE)
            wait_until(lambda: client.zcard(keys.inflight) == _IN_FLIGHT, "batches in flight")
            client.xadd(keys.results, {"v": 1})  # cutting is held back, so all events now wait
            wait_until(ours.broker.held_back, "the reason")
            ours.fill(min(waiting, 1_000))
            for some in range(1_000, waiting, 100_000):
                client.eval(MULTIPLY, 1, keys.events, min(100, (waiting - some) // 1_000))
            return {FIGURE: _recovery(ours, client)}

    yield System("Microbatch", microbatch, first=scale.backlog)


def _recovery(ours: Ours, client: Any) -> float:
    """Seconds from the kill of the worker that holds a batch until another worker runs that batch."""
    worker = (PYTHON, "-m", "microbatch.worker", holding.APP)
    with running(*worker, **ours.variables) as victim:
        wait_until(lambda: client.exists(holding.HELD), "a worker at its batch")
        with running(*worker, **ours.variables):
            wait_until(lambda: client.llen(holding.RUNS) > 1, "another worker")
            victim.kill()
            killed_at = time.monotonic()
            held = client.get(holding.HELD).decode()
            return _runs_of(client, held)[1] - killed_at


def _runs_of(client: Any, batch_id: str) -> list[float]:
    """The two times at which the batch began to run, as soon as there are two."""
    found: list[float] = []

    def twice() -> bool:
        runs = (json.loads(raw) for raw in client.lrange(holding.RUNS, 0, -1))
        found[:] = [at for run_id, at in runs if run_id == batch_id]
        return len(found) > 1

    wait_until(twice, "the batch to run again")
    return found
