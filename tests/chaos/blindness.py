"""Blindness: the times in which faults kept a client from reading from the server."""

from __future__ import annotations

from tests.chaos.evidence import Evidence
from tests.chaos.faults import SERVER
from tests.chaos.history import OK

Span = tuple[float, float]

_LONGEST_PAUSE_SECONDS = 5.0
"""At most: a client that has lost the server retries after about as long as the server was away."""
_CONNECT_SECONDS = 0.5


def blind(found: Evidence, client: str) -> list[Span]:
    """When this client could not read, as spans that do not touch."""
    spans: list[Span] = []
    faults = [note for note in found.notes if note.what == "fault" and note.state == OK]
    for fault in sorted(faults, key=lambda fault: fault.since):
        if fault["target"] not in (SERVER, client):
            continue
        begin, end = fault.since, fault.at
        end += min(end - begin, _LONGEST_PAUSE_SECONDS) + _CONNECT_SECONDS
        if spans and begin <= spans[-1][1]:
            begin, earlier_end = spans.pop()
            end = max(end, earlier_end)
        spans.append((begin, end))
    return spans


def seconds_of(spans: list[Span], begin: float, end: float) -> float:
    """For how long a client was blind between two moments."""
    return sum(max(0.0, min(last, end) - max(first, begin)) for first, last in spans)
