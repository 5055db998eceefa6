"""The bare floor: the least that can be done for a batch, in one process, without any guarantee.

There is one round trip per batch. It adds the sum of the last batch to a stream and reads it from there, and
pushes the next events, which were encoded before, to a list and pops them. Then these events are decoded and
added up. What is in hand is lost with the process.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

import redis
from pydantic_core import from_json

from benchmarks import events
from benchmarks.measure import Figures
from benchmarks.processes import clear, server
from benchmarks.tally import Tally

_EVENTS, _SUMS = "events", "sums"


class Bare:
    """redis-py alone."""

    def __init__(self, stack: ExitStack, size: int) -> None:
        self._client = stack.enter_context(redis.Redis.from_url(stack.enter_context(server()).url))
        self._size = size

    def end_to_end(self, count: int) -> Figures:
        """Process ``count`` events."""
        size, tally, last = self._size, Tally(count), b"0"
        raws = [events.encode(event) for event in events.some(count)]
        numbers: list[int] = []
        begun = time.monotonic()
        for first in range(0, count + size, size):
            with self._client.pipeline(transaction=False) as pipe:
                if numbers:
                    pipe.xadd(_SUMS, {"count": len(numbers), "sum": sum(numbers)})
                    pipe.xread({_SUMS: last})
                if some := raws[first : first + size]:
                    pipe.rpush(_EVENTS, *some)
                    pipe.lpop(_EVENTS, size)
                replies = pipe.execute()
            if numbers:
                ((_, ((last, fields),)),) = replies[1]
                tally.add(int(fields[b"count"]), int(fields[b"sum"]))
            if some:
                numbers = [event["number"] for event in from_json(b"[" + b",".join(replies[-1]) + b"]")]
        clear(self._client)
        return {"processed/s": tally.rate_since(begun)}
