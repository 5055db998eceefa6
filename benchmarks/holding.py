"""The app of the row ``recover``: it notes which batch is run, and holds the first one for ever."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import redis

from microbatch.producer import BatchInfo, Config

APP = "benchmarks.holding:config"
RUNS, HELD = "bench:runs", "bench:held"
BATCH_SECONDS = 0.02
"""The duration of every other batch, so that the queue is not empty before the held batch's turn comes."""

_client: Any = redis.Redis.from_url(os.environ.get("MICROBATCH_REDIS_URL", "redis://"))


def hold(_batch: list[Any], info: BatchInfo) -> None:
    """Note the run, and take ``BATCH_SECONDS``, or for ever."""
    _client.rpush(RUNS, json.dumps([info.id, time.monotonic()]))
    if _client.set(HELD, info.id, nx=True):
        while True:
            time.sleep(1)
    time.sleep(BATCH_SECONDS)


config = Config(name="sums", batch_processor=hold)
