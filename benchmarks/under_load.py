"""The table of the row ``load`` for docs/performance.md: how long calls take, and how large batches are."""

from __future__ import annotations

from benchmarks.report import Found, number
from benchmarks.rows.load import IDLE, NAME

_HEAD = "| calls a second | p50 | p95 | events in a batch | p95 ≤ bound |\n|---|---|---|---|---|\n"


def row_of(found: Found) -> Found | None:
    """The row, if the file has it."""
    return next((row for row in found["rows"] if row["row"] == NAME), None)


def markdown(row: Found, picture: str) -> str:
    """The table, the bound, and the picture."""
    figures = {(figure["system"], figure["figure"]): figure["median"] for figure in row["figures"]}
    met = {claim["of"]: claim["met"] for claim in row["claims"] if claim["figure"] == "p95 ms"}
    lines = "".join(
        f"| {load:,} | {number(figures[of, 'p50 ms'])} ms | {number(figures[of, 'p95 ms'])} ms "
        f"| {number(figures[of, 'events/batch'])} | {'yes' if met[of] else 'no'} |\n"
        for (of, name), load in figures.items()
        if name == "calls/s"
    )
    return (
        f"{_HEAD}{lines}\nOne call at a time, with a processor that takes no time: p50 "
        f"{number(figures[IDLE, 'idle ms'])} ms. So the bound is {number(figures[IDLE, 'bound ms'])} ms.\n\n"
        f"![Milliseconds from the call to its answer, by calls a second]({picture})"
    )
