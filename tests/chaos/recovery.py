"""Recovery: how long it took until somebody else did what a killed process had been at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tests.chaos.checker import Violation
from tests.chaos.evidence import Evidence
from tests.chaos.faults import EAT, KILL
from tests.chaos.history import INVOKE, OK, Note

WORKER_SECONDS = 15.0
SCHEDULER_SECONDS = 3.0
_AWAY_SECONDS = 5.0
"""How long a process that had lost the server may wait until it tries again."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How many ``seconds`` it took from a kill; None if it never came. Other faults excuse some."""

    what: str
    seconds: float | None
    excused: float
    bound: float

    @property
    def late(self) -> bool:
        return self.seconds is None or self.seconds > self.bound + self.excused


def recoveries(found: Evidence) -> Iterator[Recovery]:
    """One for each batch that a killed worker was running, and for each active scheduler that was killed."""
    faults = [note for note in found.notes if note.what == "fault" and note.state == OK]
    for kill in faults:
        if kill["kind"] != KILL:
            continue
        batch = _running(found.notes, kill)
        if kill["target"].startswith("worker") and batch:
            after = _next(found.notes, kill, partial(_goes_on, batch))
            others = _between(faults, kill, ("server", "scheduler", "worker"))
            yield _recovery(f"batch {batch} of {kill['target']}", kill, after, others, WORKER_SECONDS)
        elif kill["target"].startswith("scheduler") and _was_active(found.notes, kill):
            after = _next(found.notes, kill, lambda note: note.what == "acquire" and note.state == OK)
            others = _between(faults, kill, ("server", "scheduler"))
            yield _recovery(f"the lease of {kill['target']}", kill, after, others, SCHEDULER_SECONDS)


def in_time(found: Evidence) -> Iterator[Violation]:
    """What was not recovered within its bound, other faults excused."""
    for recovery in recoveries(found):
        if recovery.late:
            took = "never" if recovery.seconds is None else f"after {recovery.seconds:.1f} s"
            excused = f"{recovery.bound:g} s and {recovery.excused:.1f} s for other faults are allowed"
            yield Violation("in_time", f"{recovery.what} was taken over {took}; {excused}")


def _running(notes: Sequence[Note], kill: Note) -> str:
    """The batch whose processor the killed process was in, alone; empty if there was none."""
    batch = ""
    for note in notes:
        if note.at > kill.since:
            break
        if note.pid == kill["victim"] and note.what == "run":
            batch = note["batch"] if note.state == INVOKE else ""
        elif note.what == "take" and note["batch"] == batch:
            batch = ""  # by another: this one had been too silent
    return batch


def _goes_on(batch: str, note: Note) -> bool:
    """Whether somebody takes a batch, or makes an end of it."""
    return note.what in ("take", "divide", "bury") and note.state == OK and note["batch"] == batch


def _was_active(notes: Sequence[Note], kill: Note) -> bool:
    holders = [note.pid for note in notes if note.what == "acquire" and note.at < kill.since]
    return bool(holders) and holders[-1] == kill["victim"]


def _next(notes: Sequence[Note], kill: Note, wanted: Callable[[Note], bool]) -> Note | None:
    later = (note for note in notes if note.at > kill.since and note.pid != kill["victim"])
    return next(filter(wanted, later), None)


def _between(faults: Sequence[Note], kill: Note, roles: tuple[str, ...]) -> list[Note]:
    """The other faults from shortly before a kill on, of those who have a part in the recovery."""
    return [
        fault
        for fault in faults
        if fault is not kill and fault["target"].startswith(roles) and fault.at > kill.since - _AWAY_SECONDS
    ]


def _recovery(what: str, kill: Note, after: Note | None, others: Sequence[Note], bound: float) -> Recovery:
    """A fault that comes before the time is up sets it back to the whole bound, from when it is over."""
    up = kill.since + bound
    for fault in sorted(others, key=lambda fault: fault.since):
        if fault.since < up:
            away = 0.0 if fault["kind"] == EAT else _AWAY_SECONDS
            up = max(up, fault.at + away + bound)
    seconds = None if after is None else after.at - kill.since
    return Recovery(what, seconds, up - kill.since - bound, bound)
