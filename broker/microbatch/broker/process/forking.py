"""What a forked child does not share with its parent.

A lock that another thread of the parent holds at the fork stays held in the child, where that thread does not
exist. So everything that has locks, threads or connections of its own begins anew in the child.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something that a forked child begins anew."""

    def renew(self) -> None:
        """Take new locks, and forget threads and connections, which are the parent's."""
        ...


_owners: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(owner: Renewable) -> None:
    """Have ``owner.renew()`` called in each child that is forked, before anything else runs there."""
    _owners.add(owner)


def _renew_all() -> None:
    for owner in list(_owners):
        owner.renew()


os.register_at_fork(after_in_child=_renew_all)
