"""What RQ's own workers run."""

from __future__ import annotations

from typing import Any


def nothing(_batcher: str, _batch_id: str) -> None:
    """What a job of ours names, and an empty function."""


def number_of(event: dict[str, Any]) -> int:
    """A job per event: says which it was."""
    number: int = event["number"]
    return number
