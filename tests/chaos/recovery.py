"""Recovery: how long it took until somebody else did what a killed process had been at.

Other faults may come before that. Each excuses the time that it takes from those who have a part in the
recovery, and no more: while the server is away nothing goes on, and a worker that is hit when the batch's new
job was out may have had it, so that all begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tests.chaos.checker import Violation
from tests.chaos.evidence import Evidence
from tests.chaos.faults import KILL, SERVER
from tests.chaos.history import INVOKE, OK, Note

WORKER_SECONDS = 15.0
SCHEDULER_SECONDS = 3.0
_LONGEST_PAUSE_SECONDS = 5.0
"""At most: a process that has lost the server waits about as long as that was away until it tries again."""
_NEW_JOB_SECONDS = 8.0
"""How long a job may wait for a worker, and be lost by one, before it is looked for."""

Span = tuple[float, float]


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
    notes = found.notes
    faults = [note for note in notes if note.what == "fault" and note.state == OK]
    for kill in faults:
        if kill["kind"] != KILL:
            continue
        batch = _running(notes, kill)
        if kill["target"].startswith("worker") and batch:
            what, bound = f"batch {batch} of {kill['target']}", WORKER_SECONDS
            seconds = _until(notes, kill, partial(_goes_on, batch))
            cost = partial(_cost_to_batch, notes, kill, batch)
        elif kill["target"].startswith("scheduler") and _was_active(notes, kill):
            what, bound = f"the lease of {kill['target']}", SCHEDULER_SECONDS
            seconds = _until(notes, kill, lambda note: note.what == "acquire" and note.state == OK)
            cost = partial(_cost_to_lease, notes, kill)
        else:
            continue
        before = [fault for fault in faults if seconds is None or fault.since < kill.since + seconds]
        yield Recovery(what, seconds, _excused(before, kill, bound, cost), bound)


def in_time(found: Evidence) -> Iterator[Violation]:
    """What was not recovered within its bound, other faults excused."""
    for recovery in recoveries(found):
        if recovery.late:
            took = "never" if recovery.seconds is None else f"after {recovery.seconds:.1f} s"
            excused = f"{recovery.bound:g} s and {recovery.excused:.1f} s for other faults are allowed"
            yield Violation("in_time", f"{recovery.what} was taken over {took}; {excused}")


def _running(notes: Sequence[Note], kill: Note) -> str:
    """The batch whose processor the killed process was in at its end, alone; empty if there was none."""
    batch = ""
    for note in notes:
        if note.pid == kill["victim"] and note.what == "run":
            batch = note["batch"] if note.state == INVOKE else ""
        elif note.what == "claim" and note["batch"] == batch and note.at < kill.since:
            batch = ""  # by another: this one had been too silent
    return batch


def _goes_on(batch: str, note: Note) -> bool:
    """Whether somebody takes a batch, or makes an end of it."""
    return note.what in ("claim", "divide", "bury") and note.state == OK and note["batch"] == batch


def _was_active(notes: Sequence[Note], kill: Note) -> bool:
    holders = [note.pid for note in notes if note.what == "acquire" and note.at < kill.since]
    return bool(holders) and holders[-1] == kill["victim"]


def _until(notes: Sequence[Note], kill: Note, wanted: Callable[[Note], bool]) -> float | None:
    """How long after a kill another did what is wanted, if ever."""
    later = (note for note in notes if note.at > kill.since and note.pid != kill["victim"])
    return next((note.at - kill.since for note in later if wanted(note)), None)


def _cost_to_lease(notes: Sequence[Note], kill: Note, fault: Note) -> Span | None:
    """The time that a fault takes from the standby. One that is killed may have become active just then."""
    if fault["target"] == SERVER:
        return _without_server(fault)
    if not fault["target"].startswith("scheduler"):
        return None
    return (kill.since, _back(notes, fault)) if fault["kind"] == KILL else (fault.since, fault.at)


def _cost_to_batch(notes: Sequence[Note], kill: Note, batch: str, fault: Note) -> Span | None:
    """The time that a fault takes from the active scheduler, or from the worker that it gave the batch to."""
    if fault["target"] == SERVER:
        return _without_server(fault)
    if fault["target"].startswith("scheduler"):
        return (fault.since, fault.at + (SCHEDULER_SECONDS if fault["kind"] == KILL else 0.0))
    if fault["target"].startswith("worker") and _enqueued_again(notes, kill, batch, fault):
        return (kill.since, fault.at)
    return None


def _without_server(fault: Note) -> Span:
    """While it did not answer, and until those who had lost it try again."""
    pause = min(fault.at - fault.since, _LONGEST_PAUSE_SECONDS) if fault["kind"] == SERVER else 0.0
    return fault.since, fault.at + pause


def _back(notes: Sequence[Note], kill: Note) -> float:
    """When a killed actor was there again."""
    return next(
        (n.at for n in notes if n.what == "start" and n.who == kill["target"] and n.at > kill.at), kill.at
    )


def _enqueued_again(notes: Sequence[Note], kill: Note, batch: str, fault: Note) -> bool:
    """Whether a new job for the batch was made during a fault or not long before, or was tried to be made."""
    first, last = max(kill.at, fault.since - _NEW_JOB_SECONDS), fault.at
    return any(
        note.what == "enqueue_again" and first < note.at and note.since < last and batch in note["batches"]
        for note in notes
    )


def _excused(faults: Sequence[Note], kill: Note, bound: float, cost: Callable[[Note], Span | None]) -> float:
    """How many seconds the other faults have cost that came before the time was up."""
    excused, spans = 0.0, list[Span]()
    for fault in sorted(faults, key=lambda fault: fault.since):
        if fault is not kill and fault.since < kill.since + bound + excused and (span := cost(fault)):
            spans.append(span)
            excused = _length(spans, kill.since)
    return excused


def _length(spans: Sequence[Span], start: float) -> float:
    """How long these are together, from ``start`` on, where they overlap counted once."""
    length, covered = 0.0, start
    for begin, end in sorted(spans):
        length += max(0.0, end - max(begin, covered))
        covered = max(covered, end)
    return length
