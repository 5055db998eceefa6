"""Recovery: how long it took until another process continued the work of a killed one.

Other faults may come in between. Each excuses only the time that it costs the processes that take part in the
recovery. While the server is away, nothing proceeds. If a fault hits a worker after the batch's new job was
enqueued, that worker may have had the job, and the recovery begins anew.
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
"""At most: a process that has lost the server retries after about as long as the server was away."""
_NEW_JOB_SECONDS = 8.0
"""How long a job may wait for a worker, and be lost by one, before the scheduler looks for it."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Recovery:
    """How many ``seconds`` passed since a kill; None if it never came. ``excused``: for other faults."""

    what: str
    seconds: float | None
    excused: float
    bound: float

    @property
    def late(self) -> bool:
        return self.seconds is None or self.seconds > self.bound + self.excused


def recoveries(found: Evidence) -> Iterator[Recovery]:
    """A recovery for each batch that a killed worker was running, and for each killed active scheduler."""
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
    """The recoveries that took longer than their bound, after other faults are excused."""
    for recovery in recoveries(found):
        if recovery.late:
            took = "never" if recovery.seconds is None else f"after {recovery.seconds:.1f} s"
            excused = f"{recovery.bound:g} s and {recovery.excused:.1f} s for other faults are allowed"
            yield Violation("in_time", f"{recovery.what} was taken over {took}; {excused}")


def _running(notes: Sequence[Note], kill: Note) -> str:
    """The batch that only the killed process was running at its end, or an empty string."""
    batch = ""
    for note in notes:
        if note.pid == kill["victim"] and note.what == "run":
            batch = note["batch"] if note.state == INVOKE else ""
        elif note.what == "claim" and note["batch"] == batch and note.at < kill.since:
            batch = ""  # claimed by another: this process had been silent for too long
    return batch


def _goes_on(batch: str, note: Note) -> bool:
    """Whether somebody claims, divides or buries the batch."""
    return note.what in ("claim", "divide", "bury") and note.state == OK and note["batch"] == batch


def _was_active(notes: Sequence[Note], kill: Note) -> bool:
    holders = [note.pid for note in notes if note.what == "acquire" and note.at < kill.since]
    return bool(holders) and holders[-1] == kill["victim"]


def _until(notes: Sequence[Note], kill: Note, wanted: Callable[[Note], bool]) -> float | None:
    """How long after a kill another process did what is wanted, or None."""
    later = (note for note in notes if note.at > kill.since and note.pid != kill["victim"])
    return next((note.at - kill.since for note in later if wanted(note)), None)


def _cost_to_lease(notes: Sequence[Note], kill: Note, fault: Note) -> Span | None:
    """The time that a fault costs the standby. A killed standby may have become active at that moment."""
    if fault["target"] == SERVER:
        return _without_server(fault)
    if not fault["target"].startswith("scheduler"):
        return None
    return (kill.since, _back(notes, fault)) if fault["kind"] == KILL else (fault.since, fault.at)


def _cost_to_batch(notes: Sequence[Note], kill: Note, batch: str, fault: Note) -> Span | None:
    """The time that a fault costs the active scheduler, or the worker to which it gave the batch."""
    if fault["target"] == SERVER:
        return _without_server(fault)
    if fault["target"].startswith("scheduler"):
        return (fault.since, fault.at + (SCHEDULER_SECONDS if fault["kind"] == KILL else 0.0))
    if fault["target"].startswith("worker") and _enqueued_again(notes, kill, batch, fault):
        return (kill.since, fault.at)
    return None


def _without_server(fault: Note) -> Span:
    """The time while the server did not answer, and until processes that had lost it try again."""
    pause = min(fault.at - fault.since, _LONGEST_PAUSE_SECONDS) if fault["kind"] == SERVER else 0.0
    return fault.since, fault.at + pause


def _back(notes: Sequence[Note], kill: Note) -> float:
    """When a killed actor had started again."""
    return next(
        (n.at for n in notes if n.what == "start" and n.who == kill["target"] and n.at > kill.at), kill.at
    )


def _enqueued_again(notes: Sequence[Note], kill: Note, batch: str, fault: Note) -> bool:
    """Whether the scheduler enqueued the batch again, or tried to, during a fault or shortly before it."""
    first, last = max(kill.at, fault.since - _NEW_JOB_SECONDS), fault.at
    return any(
        note.what == "enqueue_again" and first < note.at and note.since < last and batch in note["batches"]
        for note in notes
    )


def _excused(faults: Sequence[Note], kill: Note, bound: float, cost: Callable[[Note], Span | None]) -> float:
    """How many seconds were lost to other faults that came before the time was up."""
    excused, spans = 0.0, list[Span]()
    for fault in sorted(faults, key=lambda fault: fault.since):
        if fault is not kill and fault.since < kill.since + bound + excused and (span := cost(fault)):
            spans.append(span)
            excused = _length(spans, kill.since)
    return excused


def _length(spans: Sequence[Span], start: float) -> float:
    """The total length of the spans from ``start`` on. Overlaps count once."""
    length, covered = 0.0, start
    for begin, end in sorted(spans):
        length += max(0.0, end - max(begin, covered))
        covered = max(covered, end)
    return length
