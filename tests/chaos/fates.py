"""The rules about failures: what may die and when, and how many batches may have a job."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chaos.evidence import Evidence
from tests.chaos.state import State


def only_poison_dies(found: Evidence, state: State) -> Iterator[str]:
    """Only events that always make their batch fail may be dead, each in its own batch.

    A single event is an exception if no other batch ran beside it: this can't be told from an outage, and is
    a documented limit.
    """
    for batch in sorted(found.died | state.dead.keys()):
        events = {event for version in found.contents[batch] for event in version}
        events.update(state.dead.get(batch, ()), found.handled.get(batch, ()))
        if good := sorted(events - found.poison):
            if len(events) == 1 and _ran_alone(found, batch):
                continue
            yield f"batch {batch} is dead with {len(events)} events, and {good} would have succeeded"
        elif len(events) > 1:
            yield f"batch {batch} is dead with {sorted(events)}, which had not been told apart"


def poison_found(found: Evidence, state: State) -> Iterator[str]:
    """Each event that always makes its batch fail is dead at the end, however long it was held back.

    One that has expired never got the chance.
    """
    dead = {event for events in state.dead.values() for event in events}
    for event in sorted((found.poison & found.recorded) - found.expired - dead):
        yield f"event {event} fails always, and is not dead; it was seen in {_seen(found, event)}"


def dies_after_failures(found: Evidence, state: State) -> Iterator[str]:
    """A batch dies only after too many of its runs have failed, or too many of its workers have died.

    Failures and deaths of the batches that it is a part of count. A batch that was claimed and not run has
    not failed.
    """
    for batch in sorted(found.died | state.dead.keys()):
        lineage = found.lineage(batch)
        failed, lost = (sum(runs[name] for name in lineage) for runs in (found.failed_runs, found.lost_runs))
        if failed <= state.max_retries and lost <= state.max_worker_deaths:
            yield f"batch {batch} is dead after {failed} failed runs and {lost} that ended with their worker"


def bounded(found: Evidence, state: State) -> Iterator[str]:
    """No more than ``max_in_flight`` batches are queued or running."""
    most = max((note["batches"] for note in found.notes if note.what == "in_flight"), default=0)
    if most > state.max_in_flight:
        yield f"{most} batches were queued or running; max_in_flight is {state.max_in_flight}"


def _ran_alone(found: Evidence, batch: str) -> bool:
    """Whether no other batch ran between the first and the last run of this batch."""
    moments = [note.at for note in found.notes if note.what == "run" and note["batch"] == batch]
    return bool(moments) and not any(
        min(moments) <= note.at <= max(moments)
        for note in found.notes
        if note.what == "run" and note["batch"] != batch
    )


def _seen(found: Evidence, event: str) -> str:
    return ", ".join(sorted(found.batches_of_events().get(event, ()))) or "no batch"
