"""The app that is measured: it adds up the numbers of a batch. As a program, it records events.

All other settings come from the environment.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarks import events
from benchmarks.producing import produce
from microbatch.producer import Config, start

APP = "benchmarks.sums:config"


def add_up(batch: list[Any]) -> list[float]:
    """The number of events, their sum, and the time."""
    return [len(batch), sum(event["number"] for event in batch), time.monotonic()]


config = Config(name="sums", batch_processor=add_up)


def main(count: int, *how: str) -> None:
    """Record ``count`` events, in chunks or ``singly``."""
    some = list(events.some(count))
    with start(config) as batcher:

        def singly() -> None:
            for event in some:
                batcher.record_event(event)

        produce(singly if how else lambda: batcher.record_events(some))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
