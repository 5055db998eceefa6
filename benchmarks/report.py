"""The report: the results as JSON, and as a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Claim, Rounds, Row, spread

Found = Mapping[str, Any]
"""A row as it is written to the file."""


def found(row: Row, rounds: Rounds) -> dict[str, Any]:
    """The results of a row, as JSON can hold them."""
    return {
        "row": row.NAME,
        "title": row.TITLE,
        "figures": [
            {"system": system, "figure": figure, **_spread(values), "rounds": values}
            for (system, figure), values in rounds.items()
        ],
        "claims": [_claimed(claim, rounds) for claim in row.CLAIMS],
    }


def _claimed(claim: Claim, rounds: Rounds) -> dict[str, Any]:
    ratios = claim.ratios(rounds)
    values = _spread(ratios)
    return {
        "figure": claim.figure,
        "of": claim.of,
        "against": claim.against,
        "against_figure": claim.against_figure or claim.figure,
        "target": claim.target,
        "at_most": claim.at_most,
        **values,
        "met": claim.met(values["median"]),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    middle, least, most = spread(values)
    return {"median": middle, "min": least, "max": most}


def number(value: float) -> str:
    """With three significant digits, or all digits before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show(rows: Sequence[Found], console: Console) -> None:
    """Print the table: each claim with the figures that it is made of, and the figures of each curve."""
    if not any(row["claims"] for row in rows):
        for row in rows:
            _show_curves(row, console)
        return
    table = Table("row", "Microbatch", "against", "theirs", "ratio", "min to max", "target", "")
    for row in rows:
        for claim in row["claims"]:
            ours, theirs = sides(row, claim)
            table.add_row(
                row["row"],
                figure_of(ours),
                claim["against"] or "a fixed figure",
                figure_of(theirs) if theirs is not None else "",
                number(claim["median"]),
                f"{number(claim['min'])} to {number(claim['max'])}",
                target(claim),
                "[green]met[/]" if claim["met"] else "[red]missed[/]",
            )
    console.print(table)


def _show_curves(row: Found, console: Console) -> None:
    names = list(dict.fromkeys(figure["figure"] for figure in row["figures"]))
    table = Table(row["row"], *names)
    for system in dict.fromkeys(figure["system"] for figure in row["figures"]):
        found = [number(figure["median"]) for figure in row["figures"] if figure["system"] == system]
        table.add_row(system, *found)
    console.print(table)


def sides(row: Found, claim: Found) -> tuple[Found, Found | None]:
    """The figures that a claim compares."""
    figures = {(figure["system"], figure["figure"]): figure for figure in row["figures"]}
    theirs = figures[claim["against"], claim["against_figure"]] if claim["against"] else None
    return figures[claim["of"], claim["figure"]], theirs


def target(claim: Found) -> str:
    """The target of a claim."""
    return f"{'≤' if claim['at_most'] else '≥'} {claim['target']:g}{' times' if claim['against'] else ''}"


def figure_of(figure: Found) -> str:
    """A figure with its unit."""
    return f"{number(figure['median'])} {figure['figure']}"


def load(path: Path) -> Found:
    """Read a file of results."""
    found: Found = json.loads(path.read_text())
    return found
