"""Renews in a forked child what it must not share with its parent.

A lock that another thread of the parent holds at the fork stays held in the child, where that thread does not
exist. So every object with its own locks, threads or connections renews them in the child.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """An object that a forked child renews."""

    def renew(self) -> None:
        """Make new locks, and forget the parent's threads and connections."""
        ...


_owners: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(owner: Renewable) -> None:
    """Call ``owner.renew()`` in each forked child, before anything else runs there."""
    _owners.add(owner)


def _renew_all() -> None:
    for owner in list(_owners):
        owner.renew()


os.register_at_fork(after_in_child=_renew_all)
