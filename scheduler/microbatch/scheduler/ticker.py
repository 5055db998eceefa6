"""Ticks: the ends of cycles.

They lie on a fixed grid, the multiples of the frequency in the server's time, so every scheduler on
every host finds the same ones and none of them drifts. Ticks that were missed are not made up for.
"""

from __future__ import annotations

from typing import Protocol


class Ticker(Protocol):
    """What tells when a cycle is over. Tests pass one that they tick by hand."""

    def remaining_ms(self, now_ms: int) -> int:
        """How long until the next tick; 0 if it is due."""
        ...

    def ticked(self, now_ms: int) -> bool:
        """Whether a tick has come since this was last asked."""
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
