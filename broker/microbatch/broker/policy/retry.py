"""When a batch is retried after a failed run."""

from __future__ import annotations

import random

from microbatch.broker.policy.policy import Policy

_SUSPECT_SECONDS = (1.0, 2.0, 4.0, 8.0)  # how long a suspect waits before each of its runs
SUSPECT_WAITS = len(_SUSPECT_SECONDS)
"""How many times a suspect waits before a run."""
_JITTER = 0.25
_DOUBLINGS = 64  # more make no difference, and far more overflow a float


def retry_delay(failure: int, policy: Policy) -> float:
    """Seconds to wait after the failure number ``failure`` (from 1).

    The delay doubles with each failure, up to ``max_retry_delay``. It is spread by ± 25 %, so that batches
    that failed together are not retried together.
    """
    return _delay(failure, policy) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret


def suspect_delay(failures: int, policy: Policy) -> float:
    """Seconds until a suspect with this many charged failures is run again: 15 s in all, if no run succeeds.

    In an outage, the breaker opens within that time.
    """
    waits = failures - policy.max_retries - 1
    return _SUSPECT_SECONDS[min(max(waits, 0), SUSPECT_WAITS - 1)]


def longest_retry_delay(policy: Policy) -> float:
    """The longest wait before any retry, in seconds, unless its processor asked for the time."""
    return max(_delay(_DOUBLINGS, policy) * (1 + _JITTER), _SUSPECT_SECONDS[-1])


def _delay(failure: int, policy: Policy) -> float:
    longest = max(policy.max_retry_delay, policy.retry_delay)
    return float(min(policy.retry_delay * 2.0 ** min(failure - 1, _DOUBLINGS), longest))
