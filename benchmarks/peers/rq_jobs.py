"""The functions that RQ's own workers run. As a program, it enqueues one job per event."""

from __future__ import annotations

import os
import sys
from typing import Any

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from benchmarks import events
from benchmarks.producing import produce


def nothing(_batcher: str, _batch_id: str) -> None:
    """An empty function, with the arguments of our jobs."""


def number_of(event: dict[str, Any]) -> int:
    """The function of a job per event: returns the event's number."""
    number: int = event["number"]
    return number


def main(count: int) -> None:
    """Enqueue ``count`` jobs."""
    client = redis.Redis.from_url(os.environ["BENCH_URL"])
    queue = Queue("events", connection=client, serializer=JSONSerializer)

    def enqueue() -> None:
        for event in events.some(count):
            queue.enqueue("benchmarks.peers.rq_jobs.number_of", event, description="an event")

    produce(enqueue)


if __name__ == "__main__":
    main(int(sys.argv[1]))
