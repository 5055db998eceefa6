"""Runs: half a minute of faults that must break no promise, and short runs with a broken library."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import faults
from tests.chaos.mutants import MUTANTS
from tests.chaos.run import CAST, Run, names
from tests.chaos.traps import TRAPS, Trap, lay
from tests.chaos.verdict import Verdict, judge

SECONDS = 30.0
SEED = 28
_TOGETHER = [trap for trap in TRAPS.values() if trap.conditions is None]
_APART = [name for name, trap in TRAPS.items() if trap.conditions is not None]


@pytest.mark.early
def test_half_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    schedule = faults.draw(SEED, SECONDS, names(CAST))
    with Run(tmp_path, schedule, seed=SEED) as run:
        verdict = judge(run.play(SECONDS), SECONDS)
    assert verdict.passed, f"{verdict}\nseed {SEED}, {tmp_path}"


def test_a_seed_always_gives_the_same_schedule() -> None:
    actors = names(CAST)
    schedule = faults.draw(7, 300, actors)
    assert schedule == faults.draw(7, 300, actors)
    assert schedule != faults.draw(8, 300, actors)
    assert all(count > 3 for count in faults.by_kind(schedule).values())
    assert set(faults.by_kind(schedule)) == set(faults.KINDS)


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.timeout(600)
def test_the_checker_bites(mutant: str, tmp_path: Path) -> None:
    """On a busy machine, a fault may find no victim in time. So a mutant gets up to three runs."""
    trap, verdicts = TRAPS[mutant], []
    for run in range(3):
        folder = tmp_path / str(run)
        folder.mkdir()
        verdicts.append(_play_short([trap], folder, mutant))
        if trap.rule in {violation.rule for violation in verdicts[-1].violations}:
            return
    raise AssertionError("\n".join(map(str, verdicts)))


def test_the_same_faults_break_nothing_in_the_library_as_it_is(tmp_path: Path) -> None:
    verdict = _play_short(_TOGETHER, tmp_path)
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize("trap", _APART)
@pytest.mark.timeout(180)
def test_other_conditions_break_nothing_in_the_library_as_it_is(trap: str, tmp_path: Path) -> None:
    verdict = _play_short([TRAPS[trap]], tmp_path)
    assert verdict.passed, str(verdict)


def _play_short(traps: list[Trap], folder: Path, mutant: str = "") -> Verdict:
    seconds = max(trap.seconds for trap in traps)
    schedule = lay(traps, seconds, first_at=0.3, every=0.9)
    cast, conditions = traps[0].cast, traps[0].conditions
    with Run(folder, schedule, cast=cast, mutant=mutant, conditions=conditions) as run:
        return judge(run.play(seconds), seconds, thorough=False)
