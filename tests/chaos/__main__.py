"""``python -m tests.chaos``: makes a run, and prints its figures and the verdict. Exit code 1 if it fails."""

from __future__ import annotations

import argparse
import functools
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import faults
from tests.chaos.mutants import MUTANTS
from tests.chaos.run import CAST, Run, names
from tests.chaos.traps import TRAPS, lay
from tests.chaos.verdict import judge
from tests.signals import children_have_default_signals


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.chaos")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="")
    arguments = parser.parse_args()
    seconds, seed, mutant = arguments.seconds, arguments.seed, arguments.mutant
    again = f"make chaos SECONDS={seconds:g} SEED={seed}{f' MUTANT={mutant}' if mutant else ''}"
    print(again, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="microbatch-chaos-"))
    with children_have_default_signals(), _run(folder, seconds, seed, mutant) as run:
        played = run.play(seconds)
    verdict = judge(played, seconds, thorough=not mutant)
    print(f"\n{verdict}: {again}")
    if verdict.passed:
        shutil.rmtree(folder)
        return 0
    print(f"the history and the logs are in {folder}")
    return 1


def _run(folder: Path, seconds: float, seed: int, mutant: str) -> Run:
    say = functools.partial(print, flush=True)
    schedule = faults.draw(seed, seconds, names(CAST))
    if not mutant:
        return Run(folder, schedule, seed=seed, say=say)
    trap = TRAPS[mutant]
    if trap.conditions is None:
        return Run(folder, lay([trap], seconds, among=schedule), seed=seed, mutant=mutant, say=say)
    return Run(
        folder, lay([trap], seconds),
        seed=seed, cast=trap.cast, mutant=mutant, conditions=trap.conditions, say=say,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
