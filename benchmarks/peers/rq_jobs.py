"""What RQ's own workers run. As a program, it enqueues a job per event."""

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
    """What a job of ours names, and an empty function."""


def number_of(event: dict[str, Any]) -> int:
    """A job per event: says which it was."""
    number: int = event["number"]
    return number


def main(count: int) -> None:
    """Enqueue so many."""
    client = redis.Redis.from_url(os.environ["BENCH_URL"])
    queue = Queue("events", connection=client, serializer=JSONSerializer)

    def enqueue() -> None:
        for event in events.some(count):
            queue.enqueue("benchmarks.peers.rq_jobs.number_of", event, description="an event")

    produce(enqueue)


if __name__ == "__main__":
    main(int(sys.argv[1]))
