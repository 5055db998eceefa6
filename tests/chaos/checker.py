"""The checker: rules that no run may break, applied to its history and to the state that it left.

Each rule yields a sentence for each breach. A rule that yields nothing was kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos import fates, replies
from tests.chaos.evidence import Evidence
from tests.chaos.history import OK, Note
from tests.chaos.state import State
from tests.chaos.stops import stops_end

Rule = Callable[[Evidence, State], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, and what broke it."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


def nothing_lost(found: Evidence, state: State) -> Iterator[str]:
    """Every event whose recording returned is handled or dead."""
    dead = {event for events in state.dead.values() for event in events}
    answered = found.returned | found.expired  # nobody handles what was submitted
    for event in sorted(found.recorded - found.outcomes.keys() - dead - answered):
        seen = sorted(found.batches_of_events().get(event, ())) or "no batch"
        yield f"event {event} was recorded and never handled; it was seen in {seen}"


def nothing_invented(found: Evidence, state: State) -> Iterator[str]:
    """Nothing is processed or handled that was never recorded, or whose recording certainly failed."""
    seen = (
        found.batches_of_events().keys()
        | found.outcomes.keys()
        | {e for ids in state.dead.values() for e in ids}
    )
    for event in sorted(seen - found.invoked):
        yield f"event {event} was never recorded"
    for event in sorted(seen & found.refused):
        yield f"the recording of event {event} had failed"


def one_batch(found: Evidence, _state: State) -> Iterator[str]:
    """An event is in one batch, once. It may also be in parts of that batch, and in another per replay."""
    for batch, versions in found.contents.items():
        for version in versions:
            if doubled := {event for event in version if version.count(event) > 1}:
                yield f"batch {batch} has {sorted(doubled)} more than once"
    for event, batches in found.batches_of_events().items():
        if len(batches) == 1:
            continue
        leaves = batches - {ancestor for batch in batches for ancestor in found.ancestors(batch)}
        if len(leaves) > 1 + found.replayed[event]:
            yield f"event {event} is in {sorted(leaves)}, none of which is a part of another"


def one_outcome(found: Evidence, state: State) -> Iterator[str]:
    """An event is handled as part of only one batch, or is dead."""
    for event, batches in found.outcomes.items():
        if len(batches) > 1 + found.replayed[event]:
            yield f"event {event} was handled as part of {sorted(batches)}"
    for batch, events in state.dead.items():
        for event in events:
            if found.outcomes[event] - {batch} and not found.replayed[event]:
                yield f"event {event} is dead in {batch}, and was handled as part of {found.outcomes[event]}"


def one_entry(found: Evidence, _state: State) -> Iterator[str]:
    """A batch has one entry on the stream, and was ended once."""
    for batch, entries in found.entries.items():
        if len(entries) > 1:
            yield f"batch {batch} has the entries {sorted(entries)}"
    for batch, count in found.committed.items():
        if count > 1:
            yield f"batch {batch} was ended {count} times"


def entries_added(found: Evidence, state: State) -> Iterator[str]:
    """The stream got one entry for each batch that was committed or buried, and each entry was delivered."""
    if state.entries_added is None:
        return
    ended = state.stats.get("done_batches", 0) + state.stats.get("dead_batches", 0)
    if state.entries_added != ended:
        yield f"{state.entries_added} entries were added, but {ended} batches were committed or buried"
    delivered = sum(len(entries) for entries in found.entries.values())
    if state.entries_added != delivered:
        yield f"{state.entries_added} entries were added, but {delivered} were delivered"


def counted(found: Evidence, state: State) -> Iterator[str]:
    """The server counts as many events that are done, expired or dead as were recorded."""
    ended = sum(map(len, state.dead.values()))
    ended += sum(state.stats.get(name, 0) for name in ("done_events", "expired_events"))
    least, most = len(found.recorded), len(found.recorded | found.doubtful)
    if not (state.left or least <= ended <= most):
        yield f"{ended} events are done, expired or dead, but {least} to {most} were recorded"


def one_content(found: Evidence, state: State) -> Iterator[str]:
    """All who read a batch read the same events, and its result contains only these events."""
    for batch, versions in found.contents.items():
        if len(versions) > 1:
            yield f"batch {batch} was read in {len(versions)} versions: {sorted(versions)}"
    for batch, ids in state.dead.items():
        if found.contents[batch] - {tuple(ids)}:
            yield f"batch {batch} is dead with {ids}, and was read as {sorted(found.contents[batch])}"
    for batch, events in found.handled.items():
        known = {event for version in found.contents.get(batch, ()) for event in version}
        if known and events - known:
            yield f"the result of batch {batch} has {sorted(events - known)}, which are not in it"


def fenced(found: Evidence, state: State) -> Iterator[str]:
    """No batch is cut under a token after a later token was acquired."""
    for cut in state.cuts:
        if cut["held"] not in ("", cut["token"]):
            yield f"{cut['batches']} were cut under {cut['token']}, while {cut['held']} held the lease"
    acquired: list[Note] = []
    for note in found.notes:
        if note.state != OK:
            continue
        if note.what == "acquire":
            acquired.append(note)
        elif note.what == "cut" and (later := _superseded(note, acquired)):
            yield f"{note['batches']} were cut under {note['token']}, after {later['token']} was acquired"


def _superseded(cut: Note, acquired: list[Note]) -> Note | None:
    """A token that was certainly acquired after the cut's own token, and before the cut began."""
    own = max((note.at for note in acquired if note["token"] == cut["token"]), default=0.0)
    for note in acquired:
        if note["token"] != cut["token"] and note.since > own and note.at < cut.since:
            return note
    return None


def cut_once(found: Evidence, state: State) -> Iterator[str]:
    """Every batch that was run was cut exactly once."""
    times: dict[str, int] = defaultdict(int)
    for cut in state.cuts:
        for batch in cut["batches"]:
            times[batch] += 1
    for batch in found.contents:
        root = (found.ancestors(batch) or [batch])[-1]
        if times[root] != 1:
            yield f"batch {batch} (cut as {root}) was run, and cut {times[root]} times"


def drained(_found: Evidence, state: State) -> Iterator[str]:
    """After the faults have stopped, all events are dealt with, and the ledger agrees with the other keys."""
    if state.left:
        yield f"after the faults had stopped: {state.left}"
    for finding in state.findings:
        yield f"verify finds: {finding}"


def tidy(_found: Evidence, state: State) -> Iterator[str]:
    """RQ keeps no job for ever."""
    if not state.left:
        yield from (f"{key} never expires" for key in state.jobs_kept)


RULES: tuple[Rule, ...] = (
    nothing_lost,
    nothing_invented,
    one_batch,
    one_outcome,
    one_entry,
    entries_added,
    counted,
    one_content,
    fenced,
    cut_once,
    fates.only_poison_dies,
    fates.poison_found,
    fates.dies_after_failures,
    fates.bounded,
    stops_end,
    replies.settled_once,
    replies.settled_in_time,
    replies.own_result,
    replies.true_outcome,
    replies.one_of_an_id,
    drained,
    tidy,
)


def check(found: Evidence, state: State) -> list[Violation]:
    """All violations of the rules."""
    return [Violation(rule.__name__, what) for rule in RULES for what in rule(found, state)]
