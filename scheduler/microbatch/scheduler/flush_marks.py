"""The marks of flushes: how many events must still be cut before each flush is done. Pure: no I/O.

A scheduler that has just become active begins without marks. At its first look, it finds the flushes that are
not done, and notes the length that the list has then. That is at least as much as the flushes asked for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from microbatch.broker.state.flushes import FlushState

_MOST = 100
"""How many marks are kept. A further flush shares the last mark."""


@dataclass(slots=True)
class _Mark:
    number: int
    ahead: int


class FlushMarks:
    """The marks of one batcher's flushes, oldest first."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()
        self.look_due = True
        """Whether flushes may have been asked for that are not marked yet."""

    def reset(self) -> None:
        """Start again without marks, because the scheduler has just become active."""
        self._marks.clear()
        self.look_due = True

    def look(self, waiting: int, flushes: FlushState | None) -> None:
        """Take note of a look: how many events wait, and the state of the flushes if it was asked for."""
        for mark in self._marks:
            mark.ahead = min(mark.ahead, waiting)
        if flushes is not None:
            self.look_due = False
            self._mark(flushes)

    def _mark(self, flushes: FlushState) -> None:
        last = self._marks[-1].number if self._marks else flushes.done
        if flushes.asked < last:  # the server lost its last writes, and the numbers start again
            self._marks.clear()
        elif flushes.asked == last:
            return
        if len(self._marks) == _MOST:
            self._marks.pop()
        self._marks.append(_Mark(flushes.asked, flushes.waiting))

    def cut(self, events: int) -> None:
        """Take note that this number of events was cut, the oldest first."""
        for mark in self._marks:
            mark.ahead -= events

    def reached(self) -> int:
        """The number of the last flush whose events are all cut; 0 if no flush is to be noted as done."""
        return max((mark.number for mark in self._marks if mark.ahead <= 0), default=0)

    def noted(self, number: int) -> None:
        """Forget the flushes up to this one: they are noted as done at the server."""
        while self._marks and self._marks[0].number <= number:
            self._marks.popleft()
