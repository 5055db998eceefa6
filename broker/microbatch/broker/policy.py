"""The decisions after a failed run: when to try again, and when to stop trying. Pure but for the dice."""

from __future__ import annotations

import random
from enum import Enum

from microbatch.broker.config import Config

_JITTER = 0.25
_LONGEST_SECONDS = 3600.0


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
    seconds = min(first_seconds * 2.0 ** min(attempt - 1, 64), _LONGEST_SECONDS)
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
