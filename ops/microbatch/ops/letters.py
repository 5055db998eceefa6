"""The app of `microbatch demo`: adds up the values of letters in batches of two."""

from __future__ import annotations

from dataclasses import dataclass

from microbatch.producer import Config

VALUES = {"a": 1, "b": 2, "d": 4}


@dataclass(frozen=True)
class Total:
    """The value of a batch of letters, or why it can't be computed."""

    value: int = 0
    error: str = ""


def total(batch: list[str]) -> Total:
    """Add up the letters' values. Runs on a worker, once per batch."""
    for letter in batch:
        if letter not in VALUES:
            return Total(error=f"could not map letter {letter!r}")
    return Total(sum(VALUES[letter] for letter in batch))


config = Config(name="demo", batch_processor=total, frequency=1000, max_size=2)
