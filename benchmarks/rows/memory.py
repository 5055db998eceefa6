"""Memory: the cost of an event while it waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import redis

from benchmarks import events
from benchmarks.measure import Claim, Figures, Scale, System
from benchmarks.ours import Ours
from benchmarks.processes import clear, server
from benchmarks.tally import check

NAME = "memory"
TITLE = "bytes at the server per waiting event of 150, against a bare list of the same"
CLAIMS = (Claim("bytes/event", "Microbatch", 1.3, "bare list", at_most=True),)
_EVENTS = 100_000


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack)
    theirs = stack.enter_context(server())

    def microbatch(count: int) -> Figures:
        """Everything that was added to the server, including bookkeeping."""
        before = _used(ours.server.admin)
        ours.fill(count)
        after = _used(ours.server.admin)
        check("events waiting", ours.broker.events.waiting(), count)
        clear(ours.server.admin)
        return {"bytes/event": (after - before) / count}

    def bare(count: int) -> Figures:
        raws = [events.encode(event) for event in events.KINDS]
        before = _used(theirs.admin)
        with redis.Redis.from_url(theirs.url) as client:
            for _ in range(count // len(raws)):
                client.rpush("events", *raws)
        after = _used(theirs.admin)
        check("events waiting", int(theirs.admin.llen("events")), count)
        clear(theirs.admin)
        return {"bytes/event": (after - before) / count}

    yield System("Microbatch", microbatch, first=_EVENTS)
    yield System("bare list", bare, first=_EVENTS)


def _used(client: Any) -> int:
    """The memory of the server, without the memory for its clients' connections."""
    found = client.info("memory")
    used: int = found["used_memory"] - found["mem_clients_normal"]
    return used
