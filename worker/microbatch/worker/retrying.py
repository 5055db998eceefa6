"""The decision when to try a failed batch again. Pure but for the dice."""

from __future__ import annotations

import random

_JITTER = 0.25
_LONGEST_SECONDS = 3600.0


def retry_delay(attempt: int, first_seconds: float) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (from 1).

    Doubles with each attempt, up to an hour, and is spread by ± 25 % so that batches that failed
    together do not come back together.
    """
    seconds = min(first_seconds * 2.0 ** min(attempt - 1, 64), _LONGEST_SECONDS)
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
