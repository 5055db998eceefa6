"""The app whose callers want the answer to their own event: the number that follows the event's."""

from __future__ import annotations

from microbatch.producer import Config

APP = "benchmarks.answers:config"


def next_numbers(batch: list[int]) -> list[int]:
    return [number + 1 for number in batch]


config = Config(name="answers", batch_processor=next_numbers, per_event=True, eager=True, max_size=100)
