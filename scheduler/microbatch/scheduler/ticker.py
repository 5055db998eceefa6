"""Ticks: the ends of cycles.

Ticks are the multiples of the frequency in the server's time, so all schedulers on all hosts have the same
ticks and none of them drifts. Missed ticks are not made up for.
"""

from __future__ import annotations

from typing import Protocol


class Ticker(Protocol):
    """Tells when a cycle is over. Tests pass a ticker that they control."""

    def remaining_ms(self, now_ms: int) -> int:
        """How long until the next tick, in milliseconds; 0 if it is due."""
        ...

    def ticked(self, now_ms: int) -> bool:
        """Whether there was a tick since the last call."""
        ...


class GridTicker:
    """Ticks at the multiples of ``frequency_ms``."""

    def __init__(self, frequency_ms: int) -> None:
        self._frequency_ms = frequency_ms
        self._next_ms: int | None = None

    def remaining_ms(self, now_ms: int) -> int:
        return max(0, self._next(now_ms) - now_ms)

    def ticked(self, now_ms: int) -> bool:
        if now_ms < self._next(now_ms):
            return False
        self._next_ms = self._after(now_ms)
        return True

    def _next(self, now_ms: int) -> int:
        # A next tick more than a cycle away means that the server's clock was set back.
        if self._next_ms is None or self._next_ms - now_ms > self._frequency_ms:
            self._next_ms = self._after(now_ms)
        return self._next_ms

    def _after(self, now_ms: int) -> int:
        return now_ms - now_ms % self._frequency_ms + self._frequency_ms
