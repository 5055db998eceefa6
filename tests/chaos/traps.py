"""Traps: for each mutant what its protection is there for, so that it meets that for certain."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.conditions import Conditions
from tests.chaos.faults import ACTIVE, BUSY_CONSUMER, BUSY_WORKER, EAT, KILL, Fault

_EVERY_SECONDS = 5.0
_FIRST_AT = 1.0

SMALL = {"scheduler": 1, "worker": 2, "consumer": 1, "producer": 1}


@dataclass(frozen=True, slots=True)
class Trap:
    """The faults, in turn, and the ``rule`` that they have the mutant break."""

    faults: Sequence[Fault]
    rule: str
    conditions: Conditions | None = None
    """It takes a run of its own kind, with no other faults."""
    cast: Mapping[str, int] = dataclasses.field(default_factory=lambda: SMALL)
    seconds: float = 4.0
    """How long its run is at least."""
    once: bool = False
    """Its faults come once each, and not over and over."""


TRAPS = {
    "retrying-connections": Trap([Fault(0, EAT, "producer-1", words=("RPUSH", ":events"))], "one_batch"),
    "commit-without-check": Trap(
        [
            Fault(0, EAT, name, words=("EVALSHA", ":inflight", ":results"))
            for name in ("worker-1", "worker-2")
        ],
        "one_entry",
    ),
    "ack-before-handler": Trap([Fault(0, KILL, BUSY_CONSUMER)], "nothing_lost"),
    "destructive-outside-script": Trap([Fault(0, EAT, ACTIVE, words=("LPOP", ":events"))], "nothing_lost"),
    # Beside other events something always happens that ends a wait.
    "progress-after-read": Trap(
        [],
        "stops_end",
        Conditions(all_plain=True),
        cast={"scheduler": 1, "worker": 1, "stopper": 1},
        seconds=6.0,
    ),
    # Four batches come in a second, and less than two are run: at the tail a batch waits for long.
    "requeue-at-tail": Trap(
        [Fault(0, KILL, BUSY_WORKER)] * 2,  # one may come when a run has just ended
        "in_time",
        Conditions({"max_in_flight": 1000}, run_seconds=1.2, slow_seconds=9.0, all_plain=True),
        seconds=11.0,
        once=True,
    ),
    "unbounded-in-flight": Trap(
        [], "bounded", Conditions({"max_in_flight": 3}, run_seconds=0.5, all_plain=True)
    ),
    "charged-claim": Trap(
        [
            Fault(0, EAT, "worker-1", words=("EVALSHA", "rq:queue:", ":inflight")),
            Fault(0, KILL, BUSY_WORKER),
        ],
        "dies_after_failures",
        Conditions({"max_size": 1, "max_retries": 0}, pause_seconds=0.15),
    ),
}
"""By mutant."""


def lay(
    traps: Sequence[Trap],
    seconds: float,
    *,
    among: Sequence[Fault] = (),
    first_at: float = _FIRST_AT,
    every: float = _EVERY_SECONDS,
) -> list[Fault]:
    """The schedule with one fault of each trap in every so many seconds."""
    laid = [
        dataclasses.replace(trap.faults[turn % len(trap.faults)], at=first_at + every * turn)
        for trap in traps
        if trap.faults
        for turn in range(len(trap.faults) if trap.once else int((seconds - first_at) // every) + 1)
    ]
    return sorted([*among, *laid], key=lambda fault: fault.at)
