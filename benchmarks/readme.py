"""The figures in the README and in docs/performance.md, which ``make figures`` writes.

The README has those of the newest complete file of results, and docs/performance.md those of the newest file
with the row ``load``.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import under_load
from benchmarks.processes import ROOT
from benchmarks.report import Found, figure_of, load, number, sides, target
from benchmarks.rows.load import NAME

BEGIN, END = "<!-- figures: made by `make figures` -->", "<!-- /figures -->"
RESULTS = ROOT / "benchmarks" / "results"
PERFORMANCE = ROOT / "docs" / "performance.md"
_HEAD = "| what | Microbatch | the other | ratio | least to most | wanted |\n|---|---|---|---|---|---|\n"


def markdown(found: Found, pictures: str) -> str:
    """The table, the pictures, and the machine. ``pictures``: the prefix of the pictures' file names."""
    return f"{_HEAD}{_lines(found)}\n{_machine(found)}\n\n" + "\n".join(
        f"![{text}]({pictures}-{name}.svg)"
        for name, text in (
            ("sizes", "Events a second by the size of a batch"),
            ("growth", "Milliseconds for a batch by how much is there"),
        )
    )


def _lines(found: Found) -> str:
    lines = ""
    for row in found["rows"]:
        if row["row"] == NAME:
            continue
        for place, claim in enumerate(row["claims"]):
            ours, theirs = sides(row, claim)
            other = f"{figure_of(theirs)}, {claim['against']}" if theirs is not None else ""
            lines += (
                f"| {row['title'] if place == 0 else ''} | {figure_of(ours)} | {other} "
                f"| **{number(claim['median'])}** | {number(claim['min'])} to {number(claim['max'])} "
                f"| {target(claim)}{'' if claim['met'] else ', missed'} |\n"
            )
    return lines


def _machine(found: Found) -> str:
    machine = found["machine"]
    ours = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    peers = ", ".join(f"{name} {version}" for name, version in machine["peers_packages"].items())
    return (
        f"{found['date']}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}, {machine['server']}; {ours}; peers: {peers}. "
        f"Medians of {found['rounds']} rounds; a ratio is the median of the rounds' own."
    )


def put_between_marks(text: str, table: str) -> str:
    """Put the table into its place in the text. Raises ValueError if the text has no place for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no place for the figures: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def show_load(path: Path, page: Path) -> None:
    """Put the results of the row `load` into docs/performance.md, if the file has them."""
    found = load(path)
    row = under_load.row_of(found)
    if row is not None:
        picture = f"../benchmarks/results/{path.name.partition('.')[0]}-load.svg"
        table = f"{under_load.markdown(row, picture)}\n\n{_machine(found)}"
        page.write_text(put_between_marks(page.read_text("utf-8"), table), "utf-8")
        click.echo(f"{page.name} shows {path.name}")


@click.command()
@click.option(
    "--readme", type=click.Path(exists=True, path_type=Path), default=ROOT / "README.md", show_default=True
)
@click.option(
    "--performance", type=click.Path(exists=True, path_type=Path), default=PERFORMANCE, show_default=True
)
@click.option("--results", type=click.Path(exists=True, path_type=Path), help="Else the newest.")
def main(readme: Path, performance: Path, results: Path | None) -> None:
    """Put the newest results into the README and into docs/performance.md."""
    path = results if results is not None else max(RESULTS.glob("????-??-??.json"))
    table = markdown(load(path), f"benchmarks/results/{path.stem}")
    readme.write_text(put_between_marks(readme.read_text("utf-8"), table), "utf-8")
    click.echo(f"{readme.name} shows {path.name}")
    for each in (results,) if results is not None else sorted(RESULTS.glob("*.json")):
        show_load(each, performance)  # the newest comes last


if __name__ == "__main__":
    main()
