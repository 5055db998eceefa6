"""Eager: from ``record_event`` to the handler, at rest, with eager cutting, by size and by the tick."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import Ours
from benchmarks.rows.latency import handled_after

NAME = "eager"
TITLE = "an event from `record_event` to the handler, at rest, with eager cutting, against size and tick"
# A full batch of one takes the shortest time: the scheduler is told, and cuts at once. The tick of this
# row comes ten times as often as by default, so that a round is short.
CLAIMS = (
    Claim("median ms", "eager", 1.2, "full", at_most=True),
    Claim("p99 ms", "eager", 1.5, "full", at_most=True),
    Claim("median ms", "eager", 0.2, "tick", at_most=True),
    Claim("p99 ms", "eager", 1.0, "tick", "median ms", at_most=True),
)
_EVENTS = 100
_FREQUENCY = 100
_NO_TICK = 3_600_000


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    kinds = {
        "eager": Ours(stack, eager=True, frequency=_NO_TICK),
        "full": Ours(stack, max_size=1, frequency=_NO_TICK),
        "tick": Ours(stack, frequency=_FREQUENCY),
    }
    for name, ours in kinds.items():
        stack.enter_context(ours.everything())
        yield System(name, partial(_run, handled_after(stack, ours)), first=_EVENTS)


def _run(timed: Callable[[Callable[[], float], int], Figures], count: int) -> Figures:
    """Time events after the same pauses in every round, which fall on all parts of a cycle."""
    pauses = random.Random(count)  # noqa: S311 - no secret
    return timed(lambda: pauses.uniform(0, _FREQUENCY / 1000), count)
