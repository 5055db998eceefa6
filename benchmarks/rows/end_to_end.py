"""End to end, small batches: from ``record_events`` to the handler, with everything running at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.celery_batches import CeleryBatches
from benchmarks.measure import Claim, Scale, System
from benchmarks.ours import Ours

NAME = "end-to-end-30"
TITLE = "`record_events` to handler, everything running, in batches of 30, against celery-batches"
_ONE, _TWO = "celery-batches, one worker -c 2", "celery-batches, two workers -c 1"
CLAIMS = (
    Claim("processed/s", "Microbatch", 40.0, _ONE),
    Claim("processed/s", "Microbatch", 20.0, _TWO),
    Claim("recorded/s", "Microbatch", 100.0, _TWO),
)
_SIZE = 30
_PREFETCH = 120


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack, max_size=_SIZE)
    stack.enter_context(ours.everything())
    one = CeleryBatches(stack, flush_every=_SIZE, workers=1, concurrency=2, prefetch=_PREFETCH // 2)
    two = CeleryBatches(stack, flush_every=_SIZE, workers=2, concurrency=1, prefetch=_PREFETCH)
    yield System("Microbatch", ours.end_to_end, first=9_000, step=_SIZE, rate="processed/s")
    yield System(_ONE, one.end_to_end, first=1_500, step=_SIZE, rate="processed/s")
    yield System(_TWO, two.end_to_end, first=1_500, step=_SIZE, rate="processed/s")
