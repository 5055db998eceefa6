"""The app whose processor takes 20 ms for a batch, however many events it has.

A caller gets the number that follows its own, and the size of the batch that its number was in. The second
app, ``idle``, has a processor that takes no time. All other settings are the defaults.
"""

from __future__ import annotations

import time

from microbatch.producer import Config

APP = "benchmarks.slow_answers:config"
IDLE_APP = "benchmarks.slow_answers:idle"
TAKES_MS = 20


def next_numbers(batch: list[int]) -> list[tuple[int, int]]:
    return [(number + 1, len(batch)) for number in batch]


def slow_next_numbers(batch: list[int]) -> list[tuple[int, int]]:
    time.sleep(TAKES_MS / 1000)
    return next_numbers(batch)


config = Config(name="slow-answers", batch_processor=slow_next_numbers, per_event=True, eager=True)
idle = Config(name="idle-answers", batch_processor=next_numbers, per_event=True, eager=True)
