"""The same calls with Celery: a task for each number, whose caller waits for its own result.

As a program, it makes calls from threads, and prints how long each took, in milliseconds, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from celery import Celery
from celery.signals import worker_ready

URL = os.environ["BENCH_URL"]
READY = "ready"

client = redis.Redis.from_url(URL)
app = Celery("benchmarks.peers.celery_answers", broker=URL, backend=URL)
app.conf.update(
    task_serializer="json",
    worker_prefetch_multiplier=16,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    result_expires=60,
)


@app.task(name="next_number")  # type: ignore[untyped-decorator]
def next_number(number: int) -> int:
    return number + 1


def tell_ready(**_about: Any) -> None:
    """The handler of Celery's signal that a worker accepts tasks now."""
    client.incr(READY)


worker_ready.connect(tell_ready)


def call(number: int) -> float:
    begun = time.perf_counter()
    if next_number.delay(number).get(timeout=60) != number + 1:
        raise ValueError("a wrong answer")
    return (time.perf_counter() - begun) * 1000


def main(callers: int, count: int) -> None:
    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(call, range(callers)))  # each thread opens its connections
        begun = time.perf_counter()
        took = list(threads.map(call, range(count)))
        print(json.dumps({"seconds": time.perf_counter() - begun, "took": took}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
