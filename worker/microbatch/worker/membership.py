"""A worker's membership in a pool: it ends with the pool, and notes its claims in a slot of the pool's.

The pool says so in the environment of the process that it starts, as ``MICROBATCH_POOL=<the pool's
pid>:<the slot's file descriptor>``.
"""

from __future__ import annotations

import os
import signal

from microbatch.worker.lifeline import die_with_parent
from microbatch.worker.slot import Slot

VARIABLE = "MICROBATCH_POOL"

_slots: dict[int, Slot] = {}


def join_pool() -> None:
    """Join the pool that the environment names, if it names one. Call it before anything else."""
    membership = os.environ.pop(VARIABLE, "")
    if not membership:
        return
    pool_pid, _, fd = membership.partition(":")
    die_with_parent(signal.SIGKILL, int(pool_pid))
    _slots[os.getpid()] = Slot(int(fd))
    os.close(int(fd))


def slot_of_the_pool() -> Slot | None:
    """The slot of this process; None if it is not a pool's, as a fork of a worker is not."""
    return _slots.get(os.getpid())
