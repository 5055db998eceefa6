"""Chores: what a scheduler does every so many seconds, each at an interval of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf


class Chore:
    """One thing that is done again and again.

    Args:
        do: does it. May return in how many seconds it wants to be done again, if that is sooner than usual.
        every: the interval, in seconds.
    """

    def __init__(self, do: Callable[[], float | None], every: float) -> None:
        self._do = do
        self._every = every
        self._due_at = -inf

    @property
    def seconds_left(self) -> float:
        """How long until it is due; not above 0 if it is."""
        return self._due_at - time.monotonic()

    def run_if_due(self) -> None:
        """Do it if it is due. It stays due if it raises."""
        now = time.monotonic()
        if now >= self._due_at:
            sooner = self._do()
            self._due_at = now + (self._every if sooner is None else min(sooner, self._every))

    def bring_forward(self) -> None:
        """It is due now."""
        self._due_at = -inf

    def put_off(self) -> None:
        """It has just been done by other means."""
        self._due_at = time.monotonic() + self._every


class Chores:
    """Several chores, done in their order."""

    def __init__(self, *chores: Chore) -> None:
        self._chores = chores

    @property
    def seconds_left(self) -> float:
        """How long until the next is due; not above 0 if one is."""
        return min(chore.seconds_left for chore in self._chores)

    def run_due(self) -> None:
        """Do those that are due. Raises what they raise; the chores after that one stay due."""
        for chore in self._chores:
            chore.run_if_due()
