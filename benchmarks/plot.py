"""Pictures of a file of results. Runs in the peers' venv, which has matplotlib.

    .venv-bench/bin/python -m benchmarks.plot benchmarks/results/2026-01-01.json

draws ``2026-01-01-sizes.svg``, ``2026-01-01-growth.svg`` and ``2026-01-01-load.svg`` beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import StrMethodFormatter

_COLOURS = {
    "bare redis-py, one process": "#8c8c8c",
    "Microbatch": "#c2410c",
    "celery-batches": "#15803d",
    "RQ, a job per event": "#1d4ed8",
}
# Readable on a light page and on a dark one: the picture has its own background.
mpl.rcParams.update(
    {
        "svg.hashsalt": "microbatch",  # the same file from the same figures
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e5e5e5",
        "figure.constrained_layout.use": True,
    }
)


def _sizes(row: dict[str, Any], axes: Any) -> None:
    """Events per second by batch size."""
    for name, colour in _COLOURS.items():
        points = [(int(f["figure"]), f["median"]) for f in row["figures"] if f["system"] == name]
        flat = len({rate for _, rate in points}) == 1
        axes.plot(*zip(*points, strict=True), color=colour, marker="" if flat else "o", label=name)
        axes.annotate(f"{points[-1][1]:,.0f}/s", points[-1], (6, 0), textcoords="offset points", va="center")
    axes.set(xscale="log", yscale="log", xlabel="events in a batch", ylabel="events a second, to the handler")
    _in_words(axes.xaxis)
    _in_words(axes.yaxis)
    axes.legend(frameon=False)


def _growth(rows: dict[str, Any], axes: Any) -> None:
    """Milliseconds per batch, by what waits or is in flight already."""
    for name, label, colour in (
        ("growth-waiting", "events waiting", "#c2410c"),
        ("growth-in-flight", "batches in flight", "#1d4ed8"),
    ):
        figures = rows[name]["figures"]
        there = {f["system"]: f["median"] for f in figures if f["figure"] == "there"}
        found = [f for f in figures if f["figure"] == "ms/batch"]
        points = sorted((there[f["system"]], f["median"], f["min"], f["max"]) for f in found)
        xs, ys, least, most = zip(*points, strict=True)
        axes.plot(xs, ys, color=colour, marker="o", label=label)
        axes.fill_between(xs, least, most, color=colour, alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlabel="how many", ylabel="ms to cut, run and commit a batch of 30")
    _in_words(axes.xaxis)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _load(row: dict[str, Any], axes: Any) -> None:
    """How long a call takes, and how large batches are, by calls per second."""
    found: dict[str, list[float]] = {}
    for figure in row["figures"]:
        found.setdefault(figure["figure"], []).append(figure["median"])
    loads, (bound,) = found["calls/s"], found["bound ms"]
    axes.axhline(bound, color="#8c8c8c", linestyle="--", label="the bound of p95")
    for name, colour in (("p95 ms", "#c2410c"), ("p50 ms", "#1d4ed8")):
        axes.plot(loads, found[name], color=colour, marker="o", label=name.removesuffix(" ms"))
    axes.set(xscale="log", xlabel="calls a second", ylabel="ms from the call to its answer")
    _in_words(axes.xaxis)
    axes.set_ylim(bottom=0)
    sizes = axes.twinx()
    sizes.plot(loads, found["events/batch"], color="#15803d", marker="s", label="events in a batch (right)")
    sizes.set_ylim(bottom=0)
    sizes.grid(visible=False)
    sizes.spines.right.set_visible(True)
    axes.legend(
        handles=axes.lines + sizes.lines, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1)
    )


def main(path: Path) -> None:
    """Draw the pictures for which the file has rows."""
    name = path.name.partition(".")[0]
    rows = {row["row"]: row for row in json.loads(path.read_text())["rows"]}
    if "sizes" in rows:
        _draw(path.with_name(f"{name}-sizes.svg"), lambda axes: _sizes(rows["sizes"], axes))
    if "growth-waiting" in rows and "growth-in-flight" in rows:
        _draw(path.with_name(f"{name}-growth.svg"), lambda axes: _growth(rows, axes))
    if "load" in rows:
        _draw(path.with_name(f"{name}-load.svg"), lambda axes: _load(rows["load"], axes))


def _in_words(axis: Any) -> None:
    """Write 1,000, not 10³."""
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _draw(path: Path, draw: Callable[[Any], None]) -> None:
    figure, axes = plt.subplots(figsize=(7.5, 4.2))
    draw(axes)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
