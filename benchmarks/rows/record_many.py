"""Record, many: a thousand events per call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import redis

from benchmarks import events
from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import Ours
from benchmarks.rows.record import check_recorded, stamped
from microbatch.producer import start

NAME = "record-many"
TITLE = "`record_events` of 150-byte dicts, against bare `RPUSH` of 1,000 encoded values a call"
CLAIMS = (Claim("events/s", "Microbatch", 0.5, "bare RPUSH"),)
_CALL = 1_000


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack)
    client = stack.enter_context(redis.Redis.from_url(ours.server.url))
    kinds = [stamped(event) for event in events.KINDS]
    batcher = start(ours.config)
    stack.callback(batcher.close)

    def microbatch(count: int) -> Figures:
        some = list(events.some(count))
        begun = time.perf_counter()
        batcher.record_events(some)
        ended = time.perf_counter()
        check_recorded(ours, count)
        return {"events/s": count / (ended - begun)}

    def bare(count: int) -> Figures:
        assert len(kinds) == _CALL
        key, push = ours.broker.keys.events, client.rpush
        begun = time.perf_counter()
        for _ in range(count // _CALL):
            push(key, *kinds)
        ended = time.perf_counter()
        check_recorded(ours, count)
        return {"events/s": count / (ended - begun)}

    yield System("Microbatch", microbatch, first=10_000, step=_CALL, share=0.25, rate="events/s")
    yield System("bare RPUSH", bare, first=10_000, step=_CALL, share=0.25, rate="events/s")
