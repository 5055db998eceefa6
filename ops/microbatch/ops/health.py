"""Finds problems in a batcher's status, for monitoring."""

from __future__ import annotations

from collections.abc import Iterator

from microbatch.ops.status import Status
from microbatch.ops.views.status import age_text

_LATE_CYCLES = 5
_LATE_MS = 10_000
"""An event that has waited for at most this long is never late."""


def problems(status: Status) -> Iterator[str]:
    """One line for each problem that a person should handle.

    The risks are not among them: they come from how the server is set up, and stay.
    """
    count = status.count
    if count.active is None:
        yield "no scheduler is active: what waits is not cut"
    elif not status.held_back and (late := _late(status)):
        yield late
    if not status.workers:
        yield "there is no worker: what is in flight is not run"
    if status.held_back:
        yield f"held back: {status.held_back}"
    if status.neglect is not None:
        yield f"neglected: {status.neglect}"
    if dead := count.counters.dead_batches_now:
        batches = "1 batch is" if dead == 1 else f"{dead:,} batches are"
        yield f"{batches} dead: see to them with `microbatch dead list {status.batcher}`"


def not_here(status: Status, role: str, host: str) -> Iterator[str]:
    """One line if no process of this role, "scheduler" or "worker", is seen on this host."""
    holders = [holder for holder in (status.count.active, *status.count.standbys) if holder is not None]
    if role == "scheduler" and not any(holder.host == host for holder in holders):
        yield f"no scheduler of this host ({host}) is active or stands by"
    if role == "worker" and not any(
        # A name ends with the process's pid and a random part.
        worker.name.rsplit("-", 2)[0] == f"{status.batcher}-{host}"
        for worker in status.workers
    ):
        yield f"no worker of this host ({host}) shows itself"


def _late(status: Status) -> str:
    age_ms = status.oldest_waiting_age_ms
    cycle_ms = status.settings.get("frequency", 0)
    if age_ms is None or age_ms <= max(_LATE_MS, _LATE_CYCLES * cycle_ms):
        return ""
    return f"the oldest event has waited for {age_text(age_ms)}, and a cycle takes {cycle_ms / 1000:g} s"
