"""Traps: for each mutant the faults that its protection is there for, so that it meets them for certain."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tests.chaos.faults import ACTIVE, BUSY_CONSUMER, EAT, KILL, Fault

_EVERY_SECONDS = 5.0
_FIRST_AT = 1.0

TRAPS: dict[str, tuple[list[Fault], str]] = {
    "retrying-connections": (
        [Fault(0, EAT, "producer-1", words=("RPUSH", ":events"))],
        "one_batch",
    ),
    "commit-without-check": (
        [
            Fault(0, EAT, name, words=("EVALSHA", ":inflight", ":results"))
            for name in ("worker-1", "worker-2")
        ],
        "one_entry",
    ),
    "ack-before-handler": ([Fault(0, KILL, BUSY_CONSUMER)], "nothing_lost"),
    "destructive-outside-script": ([Fault(0, EAT, ACTIVE, words=("LPOP", ":events"))], "nothing_lost"),
}
"""By mutant: the faults, in turn, and the rule that they have it break."""


def lay(
    traps: Sequence[Sequence[Fault]],
    seconds: float,
    *,
    among: Sequence[Fault] = (),
    first_at: float = _FIRST_AT,
    every: float = _EVERY_SECONDS,
) -> list[Fault]:
    """The schedule with one fault of each trap in every so many seconds."""
    laid = [
        dataclasses.replace(trap[turn % len(trap)], at=first_at + every * turn)
        for turn in range(int((seconds - first_at) // every) + 1)
        for trap in traps
    ]
    return sorted([*among, *laid], key=lambda fault: fault.at)
