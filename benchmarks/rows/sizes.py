"""The curve: throughput against batch size, for all systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from benchmarks.bare import Bare
from benchmarks.celery_batches import CeleryBatches
from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import Ours
from benchmarks.plain_rq import PlainRQ

NAME = "sizes"
TITLE = "events a second from record to handler, by the size of a batch"
CLAIMS: tuple[Claim, ...] = ()
SIZES = (1, 10, 30, 100, 1_000, 10_000)
_FEWEST = 300
_MOST_CELERY = 6_000
_EndToEnd = Callable[[int], Figures]


def systems(scale: Scale, _stack: ExitStack) -> Iterator[System]:
    def curve(system: Callable[[ExitStack, int], _EndToEnd]) -> Callable[[int], Figures]:
        return lambda _count: {f"{size}": _rate(system, size, 6 * size, scale) for size in SIZES}

    def celery_batches(_count: int) -> Figures:
        # Each of its two workers may be left with a batch that isn't full, and waits a second for more
        # events. So there are enough events that these are not among the 95 % that are measured. With the
        # largest sizes, no batch gets full within the second after which it is flushed.
        return {
            f"{size}": _rate(_celery_batches, size, min(60 * size, _MOST_CELERY), scale) for size in SIZES
        }

    def plain_rq(_count: int) -> Figures:
        rate = _rate(lambda stack, _size: PlainRQ(stack).end_to_end, 1, 0, scale)
        return {f"{size}": rate for size in SIZES}  # it has no batches

    yield System("bare redis-py, one process", curve(_bare), first=1)
    yield System("Microbatch", curve(_microbatch), first=1)
    yield System("celery-batches", celery_batches, first=1)
    yield System("RQ, a job per event", plain_rq, first=1)


def _rate(system: Callable[[ExitStack, int], _EndToEnd], size: int, least: int, scale: Scale) -> float:
    """Events per second in batches of ``size``, after a first run that tells how many events to use."""
    least = max(least, _FEWEST)
    with ExitStack() as stack:
        run = system(stack, size)
        count = run(least)["processed/s"] * scale.seconds
        return run(max(least, round(count / size) * size))["processed/s"]


def _bare(stack: ExitStack, size: int) -> _EndToEnd:
    return Bare(stack, size).end_to_end


def _microbatch(stack: ExitStack, size: int) -> _EndToEnd:
    ours = Ours(stack, max_size=size)
    stack.enter_context(ours.everything())
    return ours.end_to_end


def _celery_batches(stack: ExitStack, size: int) -> _EndToEnd:
    prefetch = max(4 * size, 120)
    return CeleryBatches(stack, flush_every=size, workers=2, concurrency=1, prefetch=prefetch).end_to_end
