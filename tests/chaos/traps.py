"""Traps: for each mutant, faults and conditions in which its missing protection certainly matters."""

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
    """The faults, in turn, and the ``rule`` that the mutant must break."""

    faults: Sequence[Fault]
    rule: str
    conditions: Conditions | None = None
    """If set, the trap needs a run under these conditions, without other faults."""
    cast: Mapping[str, int] = dataclasses.field(default_factory=lambda: SMALL)
    seconds: float = 4.0
    """The least duration of its run."""
    once: bool = False
    """Whether each fault comes once, instead of again and again."""


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
    # Beside other events, something always happens that ends a wait.
    "progress-after-read": Trap(
        [],
        "stops_end",
        Conditions(all_plain=True),
        cast={"scheduler": 1, "worker": 1, "stopper": 1},
        seconds=6.0,
    ),
    # Four batches arrive per second, and fewer than two are run: at the tail, a batch waits for long.
    "requeue-at-tail": Trap(
        [Fault(0, KILL, BUSY_WORKER)] * 2,  # one fault may come after its run has ended
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
    # Runs are slow, so that the events of a killed client are still processed when the next one submits.
    "reused-reply-stream": Trap(
        [Fault(0, KILL, "submitter-1")],
        "own_result",
        Conditions(run_seconds=1.0, all_plain=True),
        cast={"scheduler": 1, "worker-own": 1, "submitter": 1},
        once=True,
    ),
}
"""The traps, by mutant."""


def lay(
    traps: Sequence[Trap],
    seconds: float,
    *,
    among: Sequence[Fault] = (),
    first_at: float = _FIRST_AT,
    every: float = _EVERY_SECONDS,
) -> list[Fault]:
    """The schedule: in each interval of ``every`` seconds, one fault of each trap."""
    laid = [
        dataclasses.replace(trap.faults[turn % len(trap.faults)], at=first_at + every * turn)
        for trap in traps
        if trap.faults
        for turn in range(len(trap.faults) if trap.once else int((seconds - first_at) // every) + 1)
    ]
    return sorted([*among, *laid], key=lambda fault: fault.at)
