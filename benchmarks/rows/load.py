"""Load: calls come at random moments, whether or not earlier ones are answered, to a processor of 20 ms."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks import slow_answers
from benchmarks.measure import Claim, Figures, Scale, System, quantile
from benchmarks.processes import environment, server
from benchmarks.tally import check
from microbatch.ops.local.stack import Stack
from microbatch.producer import AsyncMicroBatcher, Config, connect

NAME = "load"
TITLE = "calls at random moments, a processor of 20 ms, four workers, eager cutting: p95 against the bound"
IDLE = "one at a time"
BOUND = "bound ms"
LOADS = (1, 10, 50, 100, 200, 500, 1_000, 2_000)
"""Calls per second."""


def of(load: int) -> str:
    """The system's name."""
    return f"{load:,}/s"


# The bound is twice the time of a call that waits for nobody: the processor's, and that of everything else.
# In the worst case, all workers have just begun when a call comes. It waits for one run, and is then run.
CLAIMS = (
    *(Claim("p95 ms", of(load), 1.0, IDLE, BOUND, at_most=True) for load in LOADS),
    Claim("events/batch", of(1_000), 2.0, of(200)),
    Claim("events/batch", of(2_000), 1.5, of(1_000)),
)
_WORKERS = 4
_IDLE_CALLS = 200
_LEAST_SECONDS, _MOST_SECONDS = 3.0, 10.0
_CALLS = 100
"""A load is held until there are so many calls, but not for longer than the most seconds."""


def systems(scale: Scale, stack: ExitStack) -> Iterator[System]:
    found = stack.enter_context(server())
    stack.enter_context(environment(MICROBATCH_REDIS_URL=found.url, MICROBATCH_LOG_LEVEL="ERROR"))

    def started(app: str, config: Config) -> Callable[[_Calls], Figures]:
        here = config.model_copy(update={"redis_url": found.url})
        stack.enter_context(Stack(app, here, workers=_WORKERS))
        return lambda calls: asyncio.run(_connected(here, calls))

    idle = started(slow_answers.IDLE_APP, slow_answers.idle)
    yield System(IDLE, lambda count: idle(partial(_one_at_a_time, count=count)), first=_IDLE_CALLS)
    slow = started(slow_answers.APP, slow_answers.config)
    for load in LOADS:
        yield _held(load, slow, scale.seconds)


def _held(load: int, calls: Callable[[_Calls], Figures], scale_seconds: float) -> System:
    """The system with this load, and its number of calls in a round."""
    seconds = min(max(_CALLS / load, _LEAST_SECONDS), _MOST_SECONDS) * scale_seconds
    return System(
        of(load),
        lambda count: calls(partial(at_random, load=load, count=count)),
        first=max(1, round(load * seconds)),
    )


_Calls = Callable[[AsyncMicroBatcher], Awaitable[Figures]]


async def _connected(config: Config, calls: _Calls) -> Figures:
    async with connect(config) as mb:
        await mb.submit(0)
        return await calls(mb)


async def _one_at_a_time(mb: AsyncMicroBatcher, count: int) -> Figures:
    took = [(await _call(mb, number, time.perf_counter()))[0] for number in range(count)]
    median = quantile(took, 0.5)
    return {"idle ms": median, BOUND: 2 * (slow_answers.TAKES_MS + median)}


async def at_random(mb: AsyncMicroBatcher, load: int, count: int) -> Figures:
    """Make calls at random moments, each of which begins although earlier ones are not answered yet."""
    begun = time.perf_counter()
    tasks = []
    for number, after in enumerate(moments(load, count)):
        await asyncio.sleep(max(0.0, begun + after - time.perf_counter()))
        tasks.append(asyncio.create_task(_call(mb, number, begun + after)))
    took, sizes = zip(*await asyncio.gather(*tasks), strict=True)
    return {
        "calls/s": load,
        "p50 ms": quantile(took, 0.5),
        "p95 ms": quantile(took, 0.95),
        "events/batch": count / sum(1 / size for size in sizes),  # a batch of n has answered n calls
    }


def moments(load: int, count: int) -> Iterator[float]:
    """The moments of a Poisson process, in seconds. They are the same each time."""
    seeded = random.Random(load)  # noqa: S311 - no secret
    return itertools.accumulate(seeded.expovariate(load) for _ in range(count))


async def _call(mb: AsyncMicroBatcher, number: int, moment: float) -> tuple[float, int]:
    """Milliseconds since the moment at which the call was meant to begin, and the size of its batch."""
    answer, size = await mb.submit(number, timeout=60)
    took = (time.perf_counter() - moment) * 1000
    check("the answer", answer, number + 1)
    return took, size
