"""The verdict on a run: broken rules, whether enough happened to be meaningful, and the figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.checker import Violation, check
from tests.chaos.conditions import NAME, OWN_NAME
from tests.chaos.evidence import Evidence
from tests.chaos.faults import KINDS
from tests.chaos.history import DOUBT, OK, read
from tests.chaos.recovery import SCHEDULER_SECONDS, WORKER_SECONDS, Recovery, in_time, recoveries
from tests.chaos.run import Played
from tests.chaos.state import State
from tests.chaos.stops import stops
from tests.chaos.submissions import RESULT, outcomes, submissions

FEWEST_EVENTS_A_SECOND = 10
FEWEST_RESULTS_A_SECOND = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a run."""

    violations: list[Violation]
    figures: str

    @property
    def passed(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        if self.passed:
            return f"{self.figures}\npassed"
        shown = [f"  {violation}" for violation in self.violations[:20]]
        more = len(self.violations) - len(shown)
        shown += [f"  and {more} more"] if more else []
        by_rule = Counter(violation.rule for violation in self.violations)
        rules = ", ".join(f"{rule} {count}" for rule, count in by_rule.items())
        return "\n".join([self.figures, *shown, f"FAILED: {rules}"])


def judge(played: Played, seconds: float, *, thorough: bool = True) -> Verdict:
    """The verdict. With ``thorough``, a run in which too little happened fails as well."""
    notes = list(read(played.history))
    found = {name: Evidence.of(notes, name) for name in played.states}
    violations = list(_ended(played))
    for name, state in played.states.items():
        violations += [*check(found[name], state), *in_time(found[name])]
    if thorough:
        violations += [Violation("enough", what) for what in _too_little(found[NAME], seconds)]
        violations += [Violation("enough", what) for what in _too_few_results(found[OWN_NAME], seconds)]
    shown = [_FIGURES[name](found[name], played.states[name]) for name in played.states]
    return Verdict(violations, "\n".join(shown))


def _ended(played: Played) -> Iterator[Violation]:
    """A process may end with code 2 if it can't reach the server at its start. It must not fail otherwise."""
    for name, codes in played.ends.items():
        if wrong := [code for code in codes if code != 2]:
            yield Violation("ended", f"{name} ended by itself with {wrong}; see its log")


def _too_little(found: Evidence, seconds: float) -> Iterator[str]:
    if len(found.recorded) < seconds * FEWEST_EVENTS_A_SECOND:
        yield f"only {len(found.recorded)} events were recorded"
    faults = _faults(found)
    yield from (f"no fault of the kind {kind!r} happened" for kind in KINDS if not faults[kind])
    if not found.doubtful and not any(note.state == DOUBT for note in found.notes):
        yield "nothing was in doubt"
    if not any(recoveries(found)):
        yield "nothing had to be recovered"


def _too_few_results(found: Evidence, seconds: float) -> Iterator[str]:
    if (results := outcomes(found)[RESULT]) < seconds * FEWEST_RESULTS_A_SECOND:
        yield f"only {results} futures got a result"


def _faults(found: Evidence) -> Counter[str]:
    return Counter(note["kind"] for note in found.notes if note.what == "fault" and note.state == OK)


def figures(found: Evidence, state: State) -> str:
    """What happened to the events of one batcher, in numbers."""
    faults = _faults(found)
    doubts = Counter(note.what for note in found.notes if note.state == DOUBT)
    stats, dead = state.stats, sum(map(len, state.dead.values()))
    events = [f"{len(found.recorded)} recorded", f"{len(found.doubtful)} in doubt"]
    events += [f"{len(found.outcomes)} handled"]
    events += [f"{dead} of {len(found.poison)} that always fail dead"]
    batches = [f"{stats.get('cut_batches', 0)} cut", f"{stats.get('divided_batches', 0)} divided"]
    batches += [f"{stats.get('replayed_batches', 0)} replayed"]
    batches += [f"{state.entries_added} entries on the stream"] if state.entries_added is not None else []
    recovered = list(recoveries(found))
    lines = {
        "events": ", ".join(events),
        "batches": ", ".join(batches),
        "faults": f"{faults.total()}: {', '.join(f'{kind} {faults[kind]}' for kind in KINDS)}",
        "in doubt": f"{doubts.total()}: {', '.join(f'{what} {count}' for what, count in doubts.items())}",
        "batches of killed workers ran again": _spread(recovered, WORKER_SECONDS),
        "killed schedulers were replaced": _spread(recovered, SCHEDULER_SECONDS),
        "stops": _stops(found),
        "most batches with a job": f"{_most_in_flight(found)} of {state.max_in_flight} allowed",
    }
    return _table(lines)


def own_figures(found: Evidence, state: State) -> str:
    """What happened to the events that were submitted, in numbers."""
    told, stats = outcomes(found), state.stats
    futures = [f"{outcome} {count}" for outcome, count in told.most_common()]
    batches = [f"{stats.get('cut_batches', 0)} cut", f"{stats.get('divided_batches', 0)} divided"]
    batches += [f"{stats.get('replayed_batches', 0)} replayed"]
    lines = {
        "submitted events": f"{len(submissions(found))}, {len(found.recorded)} of them certainly recorded",
        "their futures": ", ".join(futures),
        "their batches": ", ".join(batches),
        "these of killed workers ran again": _spread(list(recoveries(found)), WORKER_SECONDS),
    }
    return _table(lines)


_FIGURES = {NAME: figures, OWN_NAME: own_figures}


def _table(lines: Mapping[str, str]) -> str:
    return "\n".join(f"{name + ':':<37}{value}" for name, value in lines.items())


def _stops(found: Evidence) -> str:
    seconds = [stop.seconds for stop in stops(found) if stop.seconds is not None]
    if not seconds:
        return "none"
    spread = f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s"
    return f"{len(seconds)}, from the last result to the end {spread}"


def _most_in_flight(found: Evidence) -> int:
    return max((note["batches"] for note in found.notes if note.what == "in_flight"), default=0)


def _spread(all_found: Sequence[Recovery], bound: float) -> str:
    found = [recovery for recovery in all_found if recovery.bound == bound]
    seconds = [recovery.seconds for recovery in found if recovery.seconds is not None]
    if not seconds:
        return "none"
    alone = [r.seconds for r in found if r.seconds is not None and r.excused == 0]
    undisturbed = f"; {len(alone)} with no other fault near, worst {max(alone):.1f} s" if alone else ""
    return f"{len(found)}, median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s{undisturbed}"
