"""The same work with celery-batches: a task that adds up the numbers of a batch. As a program, it records.

It runs in the peers' venv, and is set up for speed: no results of Celery's own, early acknowledgement, no
events. The sum goes to a stream, with one command per batch, and the benchmark reads it there.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import redis
from celery import Celery
from celery.signals import worker_ready
from celery_batches import Batches

from benchmarks import events
from benchmarks.producing import produce

URL = os.environ["BENCH_URL"]
SUMS = "sums"
READY = "ready"

client = redis.Redis.from_url(URL)
app = Celery("benchmarks.peers.celery_app", broker=URL)
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    worker_prefetch_multiplier=int(os.environ["BENCH_PREFETCH"]),
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


def add_up(requests: list[Any]) -> None:
    """Add the number of events and their sum to the stream."""
    numbers = [request.args[0]["number"] for request in requests]
    client.xadd(SUMS, {"count": len(numbers), "sum": sum(numbers)})


record = app.task(
    add_up, base=Batches, name="add_up", flush_every=int(os.environ["BENCH_FLUSH_EVERY"]), flush_interval=1
)


def tell_ready(**_about: Any) -> None:
    """The handler of Celery's signal that a worker accepts tasks now."""
    client.incr(READY)


worker_ready.connect(tell_ready)


def main(count: int) -> None:
    """Record ``count`` events."""
    some = list(events.some(count))

    def all_of_them() -> None:
        for event in some:
            record.delay(event)

    produce(all_of_them)


if __name__ == "__main__":
    main(int(sys.argv[1]))
