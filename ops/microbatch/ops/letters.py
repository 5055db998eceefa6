"""The app of `microbatch demo`: letters, each worth something, added up in batches of two."""

from __future__ import annotations

from dataclasses import dataclass

from microbatch.producer import Config

VALUES = {"a": 1, "b": 2, "d": 4}


@dataclass(frozen=True)
class Total:
    """What a batch of letters is worth, or why that can't be told."""

    value: int = 0
    error: str = ""


def total(batch: list[str]) -> Total:
    """Add the letters up. Runs on a worker, once per batch."""
    for letter in batch:
        if letter not in VALUES:
            return Total(error=f"could not map letter {letter!r}")
    return Total(sum(VALUES[letter] for letter in batch))


config = Config(name="demo", batch_processor=total, frequency=1000, max_size=2)
