"""Decides what to cut. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

from microbatch.broker.policy.bounds import MAX_BYTES
from microbatch.broker.wire.header import Trigger
from microbatch.broker.wire.in_flight import Made

MAX_BATCHES = 100
"""The most batches cut in one transaction."""
MAX_EVENTS = 25_000
"""The most events cut in one transaction. They take about 30 ms of the server's time."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A batch that will be cut."""

    size: int
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class View:
    """What a plan is made from: the state at one look."""

    waiting: int
    """How many events wait."""
    rest: Trigger | None = None
    """Why events that are too few for a batch are cut; None if they wait."""
    room: int = MAX_BATCHES
    """The most batches that may be cut."""
    owed: int = 0
    """How many of the oldest events were due at an earlier look. They are still due."""

    def due(self, max_size: int) -> int:
        """How many events are due, if ``max_size`` events fill a batch."""
        if self.rest is not None:
            return self.waiting
        return max(self.waiting - self.waiting % max_size, min(self.owed, self.waiting))


def plan(view: View, max_size: int) -> list[Cut]:
    """The batches to cut in one transaction, oldest first.

    These are all full batches that are due, up to the bounds above and to the room. If there is room for one
    more batch, it contains the other events that are due. No batch is empty.
    """
    full, over = divmod(view.due(max_size), max_size)
    most = min(view.room, bound(max_size))
    cuts = [Cut(max_size, Trigger.SIZE)] * min(full, most)
    if over and full < most:
        cuts.append(Cut(over, view.rest or Trigger.SIZE))
    return cuts


def bound(max_size: int) -> int:
    """The most batches of ``max_size`` events cut in one transaction."""
    return min(MAX_BATCHES, max(1, MAX_EVENTS // max_size))


class Planner:
    """Plans the transactions of a cut, each from the result of the one before.

    The server counts the bytes of the events, so only the server knows how many events a batch takes. A
    transaction that makes fewer batches than planned leaves events for the next transaction, and jobs without
    a batch. So the next plan uses the size of the events that were moved last.
    """

    def __init__(self, max_size: int, max_bytes: int) -> None:
        self._max_size = max_size
        self._max_bytes = max_bytes
        self._due = 0
        self.event_bytes = 0
        """The average size of the events that were moved last, in bytes; 0 if none was moved yet."""
        self.left = 0
        """How many events waited after the last transaction of the cut, if they were counted."""

    def begin(self) -> None:
        """Begin a cut: nothing is owed yet."""
        self._due = self.left = 0

    def plan(self, view: View) -> list[Cut]:
        """The batches of the next transaction, as from `plan`, but no more than it is likely to make."""
        view = replace(view, owed=self._due, room=min(self._likely(), view.room))
        self._due = view.due(self._max_size)
        return plan(view, self._max_size)

    def made(self, made: Made) -> None:
        """Take note of what the transaction made."""
        self._due -= made.events
        self.left = made.left
        if made.events:
            self.event_bytes = max(1, made.bytes // made.events)

    @property
    def more(self) -> bool:
        """Whether events that are due still wait."""
        return self._due > 0

    def _likely(self) -> int:
        """The most batches that one transaction is likely to make."""
        batch_bytes = min(self._max_size * self.event_bytes, self._max_bytes)
        return max(1, int(MAX_BYTES / batch_bytes)) if batch_bytes else MAX_BATCHES
