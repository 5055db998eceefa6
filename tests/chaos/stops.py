"""The rule of stops: a stop ends soon after the last result that it waits for is there and handled.

The rule measures two times. The first is from the handling of the last result to the end of the stop. A stop
waits for the events recorded before it, and for what is in flight and on the stream when it looks. More may
arrive before a later look. There are at most three looks: for what is cut, for what is committed, and for
what is handled. The second time is from the end of a run to the call of the handler, for results that the
stopping process handles itself.

Other faults excuse the time that they cost, if they hit processes that take part.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
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
"""At most: a process that has lost the server retries after about as long as the server was away."""
_RECOVERY_SECONDS = 15.0
"""How long a result may be on its way after a fault hit its worker or consumer."""
_ROLES = ("server", "consumer", "stopper")


@dataclass(frozen=True, slots=True)
class Stop:
    """How many ``seconds`` a stop lasted after its results; None if it never ended."""

    who: str
    seconds: float | None
    excused: float = 0.0

    @property
    def late(self) -> bool:
        return self.seconds is None or self.seconds > STOP_SECONDS + self.excused


def stops(found: Evidence) -> Iterator[Stop]:
    """Every stop that began and whose process was not killed."""
    handled, faults = _Handled(found), [n for n in found.notes if n.what == "fault" and n.state == OK]
    killed = {note["victim"] for note in faults if note["kind"] == KILL}
    ends = {(n.pid, n.call): n for n in found.notes if n.what == "stop" and n.state == OK}
    drained = any(note.what == "drained" for note in found.notes)
    for begin in found.notes:
        if begin.what != "stop" or begin.state != INVOKE:
            continue
        end = ends.get((begin.pid, begin.call))
        if end is not None:
            since = handled.last(begin.at, end.at)
            yield Stop(begin.who, end.at - since, sum(_cost(fault, since, end.at) for fault in faults))
            yield from (Stop(begin.who, seconds) for seconds in handled.waits(begin, end, faults))
        elif begin.pid not in killed and drained:
            yield Stop(begin.who, None)


def stops_end(found: Evidence, _state: State) -> Iterator[str]:
    """A stop ends soon after the last result that it waits for is there and handled."""
    for stop in stops(found):
        if stop.late:
            took = "never ended" if stop.seconds is None else f"took {stop.seconds:.1f} s too long"
            yield f"a stop of {stop.who} {took}; {STOP_SECONDS + stop.excused:.1f} s are allowed"


class _Handled:
    """When events were recorded, run and handled."""

    def __init__(self, found: Evidence) -> None:
        begun: dict[str, float] = {}
        moments: dict[str, list[float]] = defaultdict(list)
        self._runs: dict[str, list[float]] = defaultdict(list)
        self._calls: dict[int, list[tuple[float, float, str]]] = defaultdict(list)
        for note in found.notes:
            if note.what == "record" and note.state == INVOKE:
                begun.update(dict.fromkeys(note["events"], note.at))
            elif note.what == "run" and note.state != INVOKE:
                self._runs[note["batch"]].append(note.at)
            elif note.what == "handle" and note.state == OK:
                self._calls[note.pid].append((note.since, note.at, note["batch"]))
                for event in note["events"]:
                    moments[event].append(note.at)
        order = sorted((at, event) for event, at in begun.items())
        self._begun = [at for at, _ in order]
        self._moments = [moments[event] for _, event in order]

    def last(self, moment: float, until: float) -> float:
        """When the last result that a stop waited for was handled.

        It began at ``moment`` and ended ``until``.
        """
        for _ in range(_LOOKS):
            for moments in self._moments[: bisect_left(self._begun, moment)]:
                moment = max([moment, *(at for at in moments if at <= until)])
        return moment

    def waits(self, begin: Note, end: Note, faults: list[Note]) -> Iterator[float]:
        """How long each result waited while the stopping process was idle. Faults close in time excuse it."""
        calls = [call for call in self._calls[begin.pid] if begin.at <= call[0] <= end.at]
        for called, _, batch in calls:
            run = max((at for at in self._runs[batch] if at <= called), default=called)
            since = max(run, begin.at)
            if not any(_may_delay(fault, since, called) for fault in faults):
                busy = sum(max(0.0, min(done, called) - max(start, since)) for start, done, _ in calls)
                yield called - since - busy


def _cost(fault: Note, begin: float, end: float) -> float:
    """The time that a fault cost a stop that should have ended after ``begin``."""
    if not fault["target"].startswith(_ROLES):
        return 0.0
    pause = _AGAIN_SECONDS if fault["kind"] in (EAT, KILL) else _LONGEST_PAUSE_SECONDS
    return max(0.0, min(end, fault.at + pause) - max(begin, fault.since))


def _may_delay(fault: Note, begin: float, end: float) -> bool:
    """Whether a fault may have made a result wait."""
    concerned = fault["target"].startswith((*_ROLES, "worker"))
    return concerned and fault.since < end and fault.at + _RECOVERY_SECONDS > begin
