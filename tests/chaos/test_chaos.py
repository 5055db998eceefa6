"""Runs: half a minute of faults, of which nothing may come, and short ones with a broken library."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import faults
from tests.chaos.faults import Fault
from tests.chaos.mutants import MUTANTS
from tests.chaos.run import CAST, Run, names
from tests.chaos.traps import TRAPS, lay
from tests.chaos.verdict import Verdict, judge

SECONDS = 30.0
SEED = 28
_SMALL = {"scheduler": 1, "worker": 2, "consumer": 1, "producer": 1}
_SHORT_SECONDS = 4.0


@pytest.mark.alone
def test_half_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    schedule = faults.draw(SEED, SECONDS, names(CAST))
    with Run(tmp_path, schedule, seed=SEED) as run:
        verdict = judge(run.play(SECONDS), SECONDS)
    assert verdict.passed, f"{verdict}\nseed {SEED}, {tmp_path}"


def test_a_schedule_can_be_had_again() -> None:
    actors = names(CAST)
    schedule = faults.draw(7, 300, actors)
    assert schedule == faults.draw(7, 300, actors)
    assert schedule != faults.draw(8, 300, actors)
    assert all(count > 3 for count in faults.by_kind(schedule).values())
    assert set(faults.by_kind(schedule)) == set(faults.KINDS)


@pytest.mark.alone
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_checker_bites(mutant: str, tmp_path: Path) -> None:
    trap, rule = TRAPS[mutant]
    verdict = _play_short([trap], tmp_path, mutant)
    assert rule in {violation.rule for violation in verdict.violations}, str(verdict)


@pytest.mark.alone
def test_the_same_faults_break_nothing_in_the_library_as_it_is(tmp_path: Path) -> None:
    verdict = _play_short([trap for trap, _ in TRAPS.values()], tmp_path)
    assert verdict.passed, str(verdict)


def _play_short(traps: list[list[Fault]], folder: Path, mutant: str = "") -> Verdict:
    schedule = lay(traps, _SHORT_SECONDS, first_at=0.3, every=0.9)
    with Run(folder, schedule, cast=_SMALL, mutant=mutant) as run:
        return judge(run.play(_SHORT_SECONDS), _SHORT_SECONDS, thorough=False)
