"""The rules about submitted events: each future ends once, with what the ledger of runs says of its event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import inf

from tests.chaos.blindness import blind, seconds_of
from tests.chaos.evidence import Evidence
from tests.chaos.faults import KILL
from tests.chaos.history import OK
from tests.chaos.own_app import run_name
from tests.chaos.promises import PROMISES, Ledger
from tests.chaos.state import State
from tests.chaos.submissions import RESULT, submissions

LATE_SECONDS = 10.0
"""More than a busy machine needs, and less than the timeout of a future whose reply was missed."""


def settled_once(found: Evidence, _state: State) -> Iterator[str]:
    """Each future ends exactly once, unless its client is killed."""
    killed = {note["victim"] for note in found.notes if note.what == "fault" and note["kind"] == KILL}
    over = any(note.what == "drained" for note in found.notes)
    for submission in submissions(found):
        if len(submission.ends) > 1:
            yield f"{submission} ended with each of {[end['outcome'] for end in submission.ends]}"
        elif not submission.ends and over and submission.begin.pid not in killed:
            yield f"{submission} has never ended"


def settled_in_time(found: Evidence, _state: State) -> Iterator[str]:
    """A future ends soon after its reply was written, and soon after its timeout.

    The time in which its client was blind is excused.
    """
    spans = {who: blind(found, who) for who in {note.who for note in found.notes if note.what == "submit"}}
    replied = _replied_at(found)
    for submission in submissions(found):
        begin, timeout = submission.begin, submission.begin["timeout"]
        due = min(begin.since + (inf if timeout is None else timeout), replied.get(submission.event, inf))
        for end in submission.ends:
            excused = seconds_of(spans[begin.who], begin.since, end.at)
            if (late := end.at - due) > LATE_SECONDS + excused:
                yield f"{submission} ended {late:.1f} s too late; {excused:.1f} s are excused"


def _replied_at(found: Evidence) -> dict[str, float]:
    """When a worker knew that the reply to an event was written: when its call had ended the batch."""
    returned: dict[tuple[int, str], list[str]] = {}
    replied: dict[str, float] = {}
    for note in found.notes:
        if note.state != OK:
            continue
        if note.what == "run":
            returned[note.pid, note["batch"]] = note.facts.get("returned", [])
        elif note.what in ("commit", "divide") and note["value"]:
            replied.update(dict.fromkeys(returned.pop((note.pid, note["batch"]), ()), note.at))
    return replied


def own_result(found: Evidence, _state: State) -> Iterator[str]:
    """A result is what a run has returned for this event, and the run is the one that ended its batch.

    All results of one batch are from the same run, because only one run ends a batch.
    """
    runs = {run_name(n.pid, n.call): n for n in found.notes if n.what == "run" and n.state == OK}
    ended_by = {
        n["batch"]: n.pid
        for n in found.notes
        if n.what in ("commit", "divide", "bury") and n.state == OK and n["value"]
    }
    told: dict[str, set[str]] = defaultdict(set)
    for submission in (each for each in submissions(found) if each.outcome == RESULT):
        event, name = submission.value
        run = runs.get(name)
        if event != submission.event:
            yield f"{submission} has the result of event {event}"
        elif run is None or event not in run["returned"]:
            yield f"{submission} has a result that run {name} did not return for it"
        else:
            told[run["batch"]].add(name)
            if ended_by.get(run["batch"], run.pid) != run.pid:
                yield f"{submission} has a result of run {name}, and another has ended batch {run['batch']}"
    for batch, names in told.items():
        if len(names) > 1:
            yield f"batch {batch} has told results of {len(names)} runs: {sorted(names)}"


def true_outcome(found: Evidence, state: State) -> Iterator[str]:
    """The outcome of a future agrees with what became of its event, as `PROMISES` says."""
    ledger = Ledger(found, state)
    for submission in submissions(found):
        if submission.ends and (wrong := PROMISES[submission.outcome](ledger, submission)):
            yield f"{submission} ended with {submission.outcome}, and {wrong}"


def one_of_an_id(found: Evidence, _state: State) -> Iterator[str]:
    """Of the events with the same id, one at most is in a batch."""
    events: dict[str, set[str]] = defaultdict(set)
    for submission in submissions(found):
        if submission.begin["id"] is not None:
            events[submission.begin["id"]].add(submission.event)
    batches = found.batches_of_events()
    for event_id, same in events.items():
        if len(cut := same & batches.keys()) > 1:
            yield f"events {sorted(cut)} have the id {event_id}, and all are in batches"
