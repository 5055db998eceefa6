"""Record: one durable event per call."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import redis

from benchmarks import events
from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import Ours
from benchmarks.processes import clear
from benchmarks.tally import check
from microbatch.broker.wire.event import encode_event, event_body
from microbatch.producer import start

NAME = "record"
TITLE = "`record_event`, one event a call, against redis-py's bare `RPUSH` of the same bytes"
CLAIMS = (Claim("calls/s", "Microbatch", 0.85, "bare RPUSH"),)


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack)
    # A client with redis-py's defaults.
    client = stack.enter_context(redis.Redis.from_url(ours.server.url))
    kinds = [stamped(event) for event in events.KINDS]
    batcher = start(ours.config)
    stack.callback(batcher.close)

    def microbatch(count: int) -> Figures:
        some = list(events.some(count))
        begun = time.perf_counter()
        for event in some:
            batcher.record_event(event)
        ended = time.perf_counter()
        check_recorded(ours, count)
        return {"calls/s": count / (ended - begun)}

    def bare(count: int) -> Figures:
        raws = list(itertools.islice(itertools.cycle(kinds), count))
        key, push = ours.broker.keys.events, client.rpush
        begun = time.perf_counter()
        for raw in raws:
            push(key, raw)
        ended = time.perf_counter()
        check_recorded(ours, count)
        return {"calls/s": count / (ended - begun)}

    yield System("Microbatch", microbatch, first=1_000, rate="calls/s")
    yield System("bare RPUSH", bare, first=1_000, rate="calls/s")


def stamped(event: dict[str, Any]) -> bytes:
    """The bytes that Microbatch sends for an event."""
    return encode_event(events.encode(event), time.time_ns() // 1_000_000)


def check_recorded(ours: Ours, count: int) -> None:
    """Raises WrongError unless these events wait. Removes them."""
    client: Any = ours.server.admin
    found: Counter[bytes] = Counter()
    while raws := client.lpop(ours.broker.keys.events, 10_000):
        found.update(map(event_body, raws))
    check("events recorded", found.total(), count)
    numbers = (json.loads(body)["number"] * times for body, times in found.items())
    check("the sum of their numbers", sum(numbers), events.total(count))
    clear(client)
