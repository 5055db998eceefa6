"""Latency: from ``record_event`` to the handler, for a batch of one event, with nothing else to do."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import redis

from benchmarks import events
from benchmarks.measure import Claim, Figures, Scale, System, quantile
from benchmarks.ours import Ours
from benchmarks.tally import check
from microbatch.producer import start

NAME = "latency"
TITLE = "an event from `record_event` to the handler, idle, a batch of one, against six bare round trips"
# A processor that has slept takes time to wake up, so both systems are measured in two ways: each event is
# recorded as soon as the one before is handled, compared with six round trips in a row; and each event and
# each round trip comes after a pause. All claims use the median of the round trips: a comparison with their
# own p99 would be easier to pass.
CLAIMS = (
    Claim("median ms", "Microbatch", 4.0, "six in a row", at_most=True),
    Claim("p99 ms", "Microbatch", 20.0, "six in a row", "median ms", at_most=True),
    Claim("median ms", "Microbatch, after a pause", 4.0, "six, each after a pause", at_most=True),
    Claim("p99 ms", "Microbatch, after a pause", 20.0, "six, each after a pause", "median ms", at_most=True),
)
_EVENTS = 200
_PAUSE_SECONDS = 0.005


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack, max_size=1)
    stack.enter_context(ours.everything())
    client = stack.enter_context(redis.Redis.from_url(ours.server.url))
    timed = handled_after(stack, ours)

    yield System("Microbatch", partial(timed, lambda: 0.0), first=_EVENTS)
    yield System("six in a row", partial(_round_trips, client, 0.0), first=_EVENTS)
    yield System("Microbatch, after a pause", partial(timed, lambda: _PAUSE_SECONDS), first=_EVENTS)
    yield System("six, each after a pause", partial(_round_trips, client, _PAUSE_SECONDS), first=_EVENTS)


def handled_after(stack: ExitStack, ours: Ours) -> Callable[[Callable[[], float], int], Figures]:
    """Start a consumer. Returns what records events one by one, and times each until it is handled.

    It gets the pause before each event, in seconds, and the number of events.
    """
    handled: queue.SimpleQueue[tuple[float, int]] = queue.SimpleQueue()

    def handle(result: list[float]) -> None:
        handled.put((time.perf_counter(), int(result[1])))

    batcher = start(ours.config.model_copy(update={"result_handler": handle}))
    consumer = threading.Thread(target=batcher.wait_for_results)
    consumer.start()
    stack.callback(batcher.close)
    stack.callback(consumer.join)
    stack.callback(batcher.stop)

    def timed(pause_seconds: Callable[[], float], count: int) -> Figures:
        took = []
        for event in events.some(count):
            time.sleep(pause_seconds())
            begun = time.perf_counter()
            batcher.record_event(event)
            ended, number = handled.get(timeout=60)
            check("the event handled", number, event["number"])
            took.append((ended - begun) * 1000)
        return _figures(took)

    return timed


def _round_trips(client: redis.Redis, pause_seconds: float, count: int) -> Figures:
    """Time six bare round trips ``count`` times, with a pause before each."""
    took = []
    for _ in range(count):
        six = 0.0
        for _number in range(6):
            time.sleep(pause_seconds)
            begun = time.perf_counter()
            client.ping()
            six += time.perf_counter() - begun
        took.append(six * 1000)
    return _figures(took)


def _figures(took: list[float]) -> Figures:
    return {"median ms": quantile(took, 0.5), "p99 ms": quantile(took, 0.99)}
