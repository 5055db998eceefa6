"""Chores: what a scheduler does periodically, each at its own interval."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf


class Chore:
    """One task that is repeated at an interval.

    Args:
        do: the task. It may return the number of seconds after which it must run again, if that is sooner
            than ``every``.
        every: the interval, in seconds.
    """

    def __init__(self, do: Callable[[], float | None], every: float) -> None:
        self._do = do
        self._every = every
        self._due_at = -inf

    @property
    def seconds_left(self) -> float:
        """How long until it is due; 0 or less if it is due now."""
        return self._due_at - time.monotonic()

    def run_if_due(self) -> None:
        """Do it if it is due. It stays due if it raises."""
        now = time.monotonic()
        if now >= self._due_at:
            sooner = self._do()
            self._due_at = now + (self._every if sooner is None else min(sooner, self._every))

    def bring_forward(self) -> None:
        """Make it due now."""
        self._due_at = -inf

    def put_off(self) -> None:
        """Start a new interval: the task was just done in another way."""
        self._due_at = time.monotonic() + self._every


class Chores:
    """Several chores, which run in this order."""

    def __init__(self, *chores: Chore) -> None:
        self._chores = chores

    @property
    def seconds_left(self) -> float:
        """How long until the next chore is due; 0 or less if one is due now."""
        return min(chore.seconds_left for chore in self._chores)

    def run_due(self) -> None:
        """Run the chores that are due. Raises what a chore raises; the later chores stay due."""
        for chore in self._chores:
            chore.run_if_due()
