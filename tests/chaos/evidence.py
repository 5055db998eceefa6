"""The evidence: the history in a form in which the rules can look things up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.conditions import NAME
from tests.chaos.history import DOUBT, FAIL, INVOKE, OK, Note

_SHARED = frozenset({"start", "begin", "fault", "calm", "drained"})
"""What is noted for all batchers. Any other note is of one batcher, and names it unless that is the first."""


@dataclass(slots=True)
class Evidence:
    """What the history says of one batcher. Batches and events are identified by their ids."""

    notes: list[Note]
    invoked: set[str] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)
    """Events whose recording returned."""
    refused: set[str] = field(default_factory=set)
    """Events whose recording certainly failed."""
    poison: set[str] = field(default_factory=set)
    """Events that always make their batch fail."""
    contents: dict[str, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    """The events of a batch, as processes have read them. There is one version if all is well."""
    parents: dict[str, str] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many calls ended a batch and got a reply that says so."""
    entries: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The entries of the stream that were delivered, by batch."""
    outcomes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The batches as part of which an event was handled."""
    handled: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The events of a batch that were handled."""
    died: set[str] = field(default_factory=set)
    """Batches that were dead at some time, according to those who buried them or handled their failure."""
    failed_runs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    lost_runs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many runs of a batch began and never ended, because their workers died."""
    replayed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    given: set[str] = field(default_factory=set)
    """Submitted events that a processor was called with."""
    returned: set[str] = field(default_factory=set)
    """Submitted events for which a processor returned a result."""
    expiring: set[str] = field(default_factory=set)
    """Submitted events that were to expire."""

    @property
    def expired(self) -> set[str]:
        """Submitted events that have expired, if their batches were run: they were not processed."""
        return self.expiring - self.given

    @property
    def doubtful(self) -> set[str]:
        """Events for which no reply said whether they were recorded."""
        return self.invoked - self.recorded - self.refused

    @classmethod
    def of(cls, notes: Iterable[Note], batcher: str = NAME) -> Evidence:
        own = (n for n in notes if n.what in _SHARED or n.facts.get("batcher", NAME) == batcher)
        found = cls(sorted(own, key=lambda note: note.at))
        for note in found.notes:
            add = _READERS.get(note.what)
            if add is not None:
                add(found, note)
        return found

    def batches_of_events(self) -> dict[str, set[str]]:
        """The batches in which each event was seen."""
        batches: dict[str, set[str]] = defaultdict(set)
        for batch, versions in self.contents.items():
            for version in versions:
                for event in version:
                    batches[event].add(batch)
        return batches

    def lineage(self, batch: str) -> list[str]:
        """The batch, and all batches that it is a part of."""
        return [batch, *self.ancestors(batch)]

    def ancestors(self, batch: str) -> list[str]:
        """The batches that this batch is a part of, nearest first."""
        found: list[str] = []
        while (parent := self.parents.get(batch, "")) and parent not in found:
            found.append(parent)
            batch = parent
        return found


def _record(found: Evidence, note: Note) -> None:
    into = {INVOKE: found.invoked, OK: found.recorded, FAIL: found.refused, DOUBT: set[str]()}
    into[note.state].update(note["events"])
    found.poison.update(note.facts.get("poison", ()))


def _claim(found: Evidence, note: Note) -> None:
    found.contents[note["batch"]].add(tuple(note["events"]))
    if note["parent"]:
        found.parents[note["batch"]] = note["parent"]


def _run(found: Evidence, note: Note) -> None:
    batch = note["batch"]
    if note.state == INVOKE:
        found.given.update(note.facts.get("given", ()))
        if "events" in note.facts:  # otherwise the processor was not given those that had expired
            found.contents[batch].add(tuple(note["events"]))
    if note.state == OK:
        found.returned.update(note.facts.get("returned", ()))
    found.lost_runs[batch] += 1 if note.state == INVOKE else -1
    found.failed_runs[batch] += note.state == FAIL


def _end(found: Evidence, note: Note) -> None:
    if note.state == OK and note["value"]:
        found.committed[note["batch"]] += 1


def _bury(found: Evidence, note: Note) -> None:
    _end(found, note)
    if note.state == OK and note["value"]:
        found.died.add(note["batch"])


def _divide(found: Evidence, note: Note) -> None:
    """Record the parts here too: the reply to a claim of a part may have been lost."""
    _end(found, note)
    for part in note["parts"]:
        found.parents[part] = note["batch"]


def _deliver(found: Evidence, note: Note) -> None:
    for entry, batch in note["entries"]:
        found.entries[batch].add(entry)


def _handle(found: Evidence, note: Note) -> None:
    if note["dead"]:
        found.died.add(note["batch"])
    if note.state == OK:
        found.handled[note["batch"]].update(note["events"])
        for event in note["events"]:
            found.outcomes[event].add(note["batch"])


def _replay(found: Evidence, note: Note) -> None:
    for event in note["events"]:
        found.replayed[event] += 1


def _submit(found: Evidence, note: Note) -> None:
    if note.state == INVOKE:
        found.invoked.add(note["event"])
        found.poison.update([note["event"]] if note["poison"] else ())
        found.expiring.update([note["event"]] if note["expires"] else ())


_READERS = {
    "submit": _submit,
    "record": _record,
    "claim": _claim,
    "run": _run,
    "commit": _end,
    "bury": _bury,
    "divide": _divide,
    "deliver": _deliver,
    "handle": _handle,
    "replay": _replay,
}
