"""``make bench``: measures all rows or the named ones, and prints and writes the results."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from benchmarks import machine, report
from benchmarks.measure import Row, Scale, measure
from benchmarks.processes import PEERS_PYTHON, ROOT
from benchmarks.readme import PERFORMANCE, RESULTS, show_load
from benchmarks.rows import (
    backlog,
    cut,
    eager,
    end_to_end,
    end_to_end_large,
    in_flight,
    latency,
    load,
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
    load,
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
@click.option("--publish", is_flag=True, help="Write, draw and show the rows that --only names, too.")
def main(
    only: tuple[str, ...], rounds: int, seconds: float, waiting: int, output: Path | None, *, publish: bool
) -> None:
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
    if output is None and (publish or not only):
        output = RESULTS / f"{'.'.join((today, *only))}.json"
    if output is not None:
        _write(output, {"date": today, "machine": machine.describe(), **asdict(scale), "rows": rows})
        if publish or not only:
            subprocess.run([PEERS_PYTHON, "-m", "benchmarks.plot", output], check=True)
    if publish and output is not None:
        show_load(output, PERFORMANCE)


def _write(output: Path, found: dict[str, object]) -> None:
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
