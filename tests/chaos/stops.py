"""The rule of stops: a stop ends soon after the last result that it waits for was handled.

A stop waits for the events recorded before it. It also waits for what is in flight and on the stream when it
looks, which may have come later: three times at most, as it looks for what is cut, committed and handled.
Other faults excuse their time, where they hit those who have a part in it: the server, whoever handles results,
and the one who stops.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.evidence import Evidence
from tests.chaos.faults import EAT, KILL
from tests.chaos.history import INVOKE, OK, Note
from tests.chaos.state import State

STOP_SECONDS = 3.0
_LOOKS = 3
_AGAIN_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 5.0
"""At most: a process that has lost the server waits about as long as that was away until it tries again."""
_ROLES = ("server", "consumer", "stopper")


@dataclass(frozen=True, slots=True)
class Stop:
    """How many ``seconds`` a stop took after the last result was handled; None if it never ended."""

    who: str
    seconds: float | None
    excused: float

    @property
    def late(self) -> bool:
        return self.seconds is None or self.seconds > STOP_SECONDS + self.excused


def stops(found: Evidence) -> Iterator[Stop]:
    """Every stop that was begun and whose process was not killed."""
    handled = _Handled(found)
    faults = [note for note in found.notes if note.what == "fault" and note.state == OK]
    killed = {note["victim"] for note in faults if note["kind"] == KILL}
    ends = {(n.pid, n.call): n for n in found.notes if n.what == "stop" and n.state == OK}
    drained = next((note.at for note in found.notes if note.what == "drained"), None)
    for begin in found.notes:
        if begin.what != "stop" or begin.state != INVOKE:
            continue
        end = ends.get((begin.pid, begin.call))
        if end is None:
            if begin.pid not in killed and drained is not None:
                yield Stop(begin.who, None, 0.0)
            continue
        since = begin.at
        for _ in range(_LOOKS):
            since = handled.after(since, end.at)
        yield Stop(begin.who, end.at - since, sum(_cost(fault, since, end.at) for fault in faults))


def stops_end(found: Evidence, _state: State) -> Iterator[str]:
    """A stop ends soon after the last result that it waits for was handled."""
    for stop in stops(found):
        if stop.late:
            took = "never" if stop.seconds is None else f"{stop.seconds:.1f} s after all was handled"
            yield f"a stop of {stop.who} ended {took}; {STOP_SECONDS + stop.excused:.1f} s are allowed"


class _Handled:
    """When all events recorded up to some moment were handled."""

    def __init__(self, found: Evidence) -> None:
        begun: dict[str, float] = {}
        moments: dict[str, list[float]] = {}
        for note in found.notes:
            if note.what == "record" and note.state == INVOKE:
                begun.update(dict.fromkeys(note["events"], note.at))
            elif note.what == "handle" and note.state == OK:
                for event in note["events"]:
                    moments.setdefault(event, []).append(note.at)
        order = sorted((at, event) for event, at in begun.items())
        self._begun = [at for at, _ in order]
        self._moments = [moments.get(event, []) for _, event in order]

    def after(self, moment: float, until: float) -> float:
        """When the last event that was begun before ``moment`` was handled, before ``until``."""
        last = moment
        for moments in self._moments[: bisect_left(self._begun, moment)]:
            last = max([last, *(at for at in moments if at <= until)])
        return last


def _cost(fault: Note, begin: float, end: float) -> float:
    """The time that a fault took from a stop that was to end after ``begin``."""
    if not fault["target"].startswith(_ROLES):
        return 0.0
    pause = _AGAIN_SECONDS if fault["kind"] in (EAT, KILL) else _LONGEST_PAUSE_SECONDS
    return max(0.0, min(end, fault.at + pause) - max(begin, fault.since))
