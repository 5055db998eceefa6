"""A worker's membership in a pool: it notes its claims in a slot that its pool reads."""

from __future__ import annotations

import os

from microbatch.worker.slot import Slot

_slots: dict[int, Slot] = {}


def join_pool(slot: int) -> None:
    """Note this process's claims in the slot with this descriptor, and close the descriptor."""
    _slots[os.getpid()] = Slot(slot)
    os.close(slot)


def slot_of_the_pool() -> Slot | None:
    """The slot of this process; None if no pool started it. A fork of a worker has none either."""
    return _slots.get(os.getpid())
