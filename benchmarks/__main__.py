"""``make bench``: measures all rows or the named ones, and prints and writes the results."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from benchmarks import machine, report
from benchmarks.measure import Row, Scale, measure
from benchmarks.processes import PEERS_PYTHON, ROOT
from benchmarks.rows import (
    backlog,
    cut,
    eager,
    end_to_end,
    end_to_end_large,
    in_flight,
    latency,
    longest_script,
    memory,
    record,
    record_many,
    recover,
    run,
    sizes,
    submit,
    tick,
)

_ALL: tuple[Row, ...] = (
    record,
    record_many,
    cut,
    run,
    end_to_end,
    end_to_end_large,
    latency,
    submit,
    eager,
    tick,
    memory,
    backlog,
    in_flight,
    longest_script,
    recover,
    sizes,
)
ROWS = {row.NAME: row for row in _ALL}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(ROWS)), help="Measure this row.")
@click.option("--rounds", default=Scale.rounds, show_default=True, type=click.IntRange(min=1))
@click.option("--seconds", default=Scale.seconds, show_default=True, help="About how long a round takes.")
@click.option("--backlog", "waiting", default=Scale.backlog, show_default=True, help="The most that waits.")
@click.option("--output", type=click.Path(resolve_path=True, path_type=Path), help="The JSON file to write.")
def main(only: tuple[str, ...], rounds: int, seconds: float, waiting: int, output: Path | None) -> None:
    """Measure the rows, print the table and write it. Without --output, write it only if it is complete."""
    os.chdir(ROOT)
    for name in [name for name in os.environ if name.startswith("MICROBATCH_")]:
        del os.environ[name]
    scale = Scale(rounds=rounds, seconds=seconds, backlog=waiting)
    rows = []
    for row in (ROWS[name] for name in only or ROWS):
        rows.append(report.found(row, measure(row, scale)))
        report.show(rows[-1:], Console(width=150))
    today = datetime.now(UTC).date().isoformat()
    if output is None and not only:
        output = ROOT / "benchmarks" / "results" / f"{today}.json"
    if output is not None:
        found = {
            "date": today,
            "machine": machine.describe(),
            "rounds": rounds,
            "seconds": seconds,
            "backlog": waiting,
            "rows": rows,
        }
        output.parent.mkdir(exist_ok=True)
        output.write_text(json.dumps(found, indent=1) + "\n")
        if not only:
            subprocess.run([PEERS_PYTHON, "-m", "benchmarks.plot", output], check=True)


if __name__ == "__main__":
    main()
