"""The same with celery-batches: a task that adds up the numbers of a batch. As a program, it records.

Runs in the peers' venv. Set up for speed: no results of Celery's own, acknowledged early, no events; the
sum goes to a stream, one command a batch, where the benchmark reads it.
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
    """How many, and their sum."""
    numbers = [request.args[0]["number"] for request in requests]
    client.xadd(SUMS, {"count": len(numbers), "sum": sum(numbers)})


record = app.task(
    add_up, base=Batches, name="add_up", flush_every=int(os.environ["BENCH_FLUSH_EVERY"]), flush_interval=1
)


def tell_ready(**_about: Any) -> None:
    """Celery's signal that a worker takes tasks now."""
    client.incr(READY)


worker_ready.connect(tell_ready)


def main(count: int) -> None:
    """Record so many events."""
    some = list(events.some(count))

    def all_of_them() -> None:
        for event in some:
            record.delay(event)

    produce(all_of_them)


if __name__ == "__main__":
    main(int(sys.argv[1]))
