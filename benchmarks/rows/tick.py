"""Tick: how far ticks are from their grid, while a producer records as fast as it can."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from benchmarks.measure import Claim, Figures, Scale, System, quantile
from benchmarks.ours import Ours
from microbatch.producer import BatchInfo

NAME = "tick"
TITLE = "how long after its tick a batch is cut, while a producer calls `record_event` without a pause"
CLAIMS = (Claim("p99 ms", "Microbatch", 5.0, at_most=True),)
_FREQUENCY = 50


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack, max_size=30, frequency=_FREQUENCY)
    stack.enter_context(ours.everything())

    def microbatch(count: int) -> Figures:
        by_tick: list[int] = []
        cuts: list[int] = []

        def look(_run_at: float, info: BatchInfo) -> None:
            cuts.append(round(info.cut_at.timestamp() * 1000))
            if info.trigger == "tick":
                by_tick.append(cuts[-1])

        producer = ours.producer(count, "singly")
        producer.go()
        ours.handle(count, look).check()
        begun, ended = producer.moments()
        return {"p99 ms": quantile(_late(by_tick, cuts), 0.99), "recorded/s": count / (ended - begun)}

    yield System("Microbatch", microbatch, first=10_000, rate="recorded/s", share=3.0)


def _late(by_tick: Sequence[int], cuts: Sequence[int]) -> list[int]:
    """For each tick from the first cut to the last, the milliseconds from the tick to its batch.

    Sometimes the events fill all batches, and a tick finds none left over. Then the next cut of any kind
    counts, so that a tick that never came is not overlooked.
    """
    by_tick, cuts = sorted(by_tick), sorted(cuts)
    late = []
    for tick in range(cuts[0] - cuts[0] % _FREQUENCY + _FREQUENCY, cuts[-1], _FREQUENCY):
        found = bisect_left(by_tick, tick)
        if found < len(by_tick) and by_tick[found] < tick + _FREQUENCY:
            late.append(by_tick[found] - tick)
        else:
            late.append(cuts[bisect_left(cuts, tick)] - tick)
    return late
