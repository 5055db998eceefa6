"""A worker's membership in a pool: it notes its claims in a slot that its pool reads."""

from __future__ import annotations

import os

from microbatch.worker.slot import Slot

_slots: dict[int, Slot] = {}


def join_pool(slot: int) -> None:
    """Note this process's claims in the slot of this descriptor, which is closed."""
    _slots[os.getpid()] = Slot(slot)
    os.close(slot)


def slot_of_the_pool() -> Slot | None:
    """The slot of this process; None if it is not a pool's, as a fork of a worker is not."""
    return _slots.get(os.getpid())
