"""The tally: counts what arrives, adds it up, and says how fast it arrived."""

from __future__ import annotations

import time

from benchmarks import events

_MEASURED = 0.95


class WrongError(Exception):
    """What came out is not what went in. The benchmark has failed, however fast it was."""


def check(what: str, found: float, expected: float) -> None:
    """Raises WrongError unless both are equal."""
    if found != expected:
        raise WrongError(f"{what}: {found:,} and not {expected:,}")


class Tally:
    """What a handler was given of ``expected`` events, which come ``after`` others.

    The rate is that of the first 95 %: the last events may wait for a tick, or for another system's
    equivalent, which says nothing about throughput.
    """

    def __init__(self, expected: int, after: int = 0) -> None:
        self._expected = expected
        self._after = after
        self._count = 0
        self._sum = 0
        self._mark: tuple[int, float] | None = None

    @property
    def full(self) -> bool:
        """Whether everything has arrived."""
        return self._count >= self._expected

    def add(self, count: int, total: int) -> None:
        """Count a batch."""
        self._count += count
        self._sum += total
        if self._mark is None and self._count >= self._expected * _MEASURED:
            self._mark = self._count, time.monotonic()

    def check(self) -> None:
        """Raises WrongError if more or fewer events arrived, or others."""
        check("events handled", self._count, self._expected)
        check("the sum of their numbers", self._sum, events.total(self._expected, self._after))

    def rate_since(self, begun: float) -> float:
        """Events per second since this moment of the monotonic clock. Raises WrongError as `check` does."""
        self.check()
        assert self._mark is not None
        count, at = self._mark
        return count / (at - begun)
