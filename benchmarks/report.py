"""The report: what was measured as JSON, as a table for the terminal, and as one for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Claim, Rounds, Row, spread

Found = Mapping[str, Any]
"""A row as it is written to the file."""


def found(row: Row, rounds: Rounds) -> dict[str, Any]:
    """What a row came to, fit for JSON."""
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
    """With three digits that count, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show(rows: Sequence[Found], console: Console) -> None:
    """The table for the terminal: each claim with the figures that it is made of."""
    table = Table("row", "Microbatch", "against", "theirs", "ratio", "min to max", "target", "")
    for row in rows:
        for claim in row["claims"]:
            ours, theirs = sides(row, claim)
            table.add_row(
                row["row"],
                _figure(ours),
                claim["against"] or "a fixed figure",
                _figure(theirs) if theirs is not None else "",
                number(claim["median"]),
                f"{number(claim['min'])} to {number(claim['max'])}",
                target(claim),
                "[green]met[/]" if claim["met"] else "[red]missed[/]",
            )
    console.print(table)


def sides(row: Found, claim: Found) -> tuple[Found, Found | None]:
    """The figures that a claim holds against each other."""
    figures = {(figure["system"], figure["figure"]): figure for figure in row["figures"]}
    theirs = figures[claim["against"], claim["against_figure"]] if claim["against"] else None
    return figures[claim["of"], claim["figure"]], theirs


def target(claim: Found) -> str:
    """What was to be reached."""
    return f"{'≤' if claim['at_most'] else '≥'} {claim['target']:g}{' times' if claim['against'] else ''}"


def _figure(figure: Found) -> str:
    return f"{number(figure['median'])} {figure['figure']}"
