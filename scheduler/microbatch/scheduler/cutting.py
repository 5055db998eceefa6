"""The decision what to cut. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass

from microbatch.broker.wire import Trigger

MAX_BATCHES = 100
"""The most batches cut in one transaction."""
MAX_EVENTS = 100_000
"""The most events cut in one transaction, some 40 ms of the server; a larger batch is cut all the same."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A batch to be cut."""

    size: int
    trigger: Trigger


def plan(waiting: int, max_size: int, rest: Trigger | None, room: int = MAX_BATCHES) -> list[Cut]:
    """The batches to cut from ``waiting`` events in one transaction, oldest first.

    As many full batches as there are, up to the bounds above and to ``room`` batches. The events beyond them
    go into a batch of their own if ``rest`` says why. Otherwise they wait. Never an empty batch.
    """
    full, over = divmod(waiting, max_size)
    most = min(bound(max_size), room)
    cuts = [Cut(max_size, Trigger.SIZE)] * min(full, most)
    if rest is not None and over and full < most:
        cuts.append(Cut(over, rest))
    return cuts


def bound(max_size: int) -> int:
    """The most batches of ``max_size`` events cut in one transaction."""
    return min(MAX_BATCHES, max(1, MAX_EVENTS // max_size))
