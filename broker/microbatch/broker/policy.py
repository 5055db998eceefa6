"""The decisions after a failed run: when to try again, and when to stop trying. Pure but for the dice."""

from __future__ import annotations

import random
from enum import Enum

from microbatch.broker.config import Config

RUN_TTL_MS = 8_000
"""How long a worker may be silent before its batch is run elsewhere."""
_JITTER = 0.25
_LONGEST_SECONDS = 3600.0
_DOUBLINGS = 64  # more make no difference, and at last no number


class Verdict(Enum):
    """What becomes of a batch whose run has failed."""

    RETRY = "retry"
    """It is run again, after a delay."""
    DIVIDE = "divide"
    """Its halves are run by themselves, to find the events that really fail."""
    BURY = "bury"
    """It is dead."""


def judge(attempt: int, size: int, config: Config) -> Verdict:
    """What becomes of a batch of ``size`` events whose attempt number ``attempt`` (from 1) has failed."""
    if attempt <= config.max_retries:
        return Verdict.RETRY
    return Verdict.DIVIDE if config.isolate_failures and size > 1 else Verdict.BURY


def retry_delay(attempt: int, first_seconds: float) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (from 1).

    Doubles with each attempt, up to an hour, and is spread by ± 25 % so that batches that failed
    together do not come back together.
    """
    return _delay(attempt, first_seconds) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret


def longest_retry_delays(config: Config) -> list[float]:
    """The most seconds that a retry waits after attempt 1, 2, …; after later ones as after the last."""
    attempts = min(config.max_retries, _DOUBLINGS + 1)
    return [_delay(attempt, config.retry_delay) * (1 + _JITTER) for attempt in range(1, attempts + 1)]


def _delay(attempt: int, first_seconds: float) -> float:
    return min(first_seconds * 2.0 ** min(attempt - 1, _DOUBLINGS), _LONGEST_SECONDS)
