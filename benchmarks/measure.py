"""Measuring: systems take turns in several rounds, and are compared round by round.

A machine is faster in one minute than in the next. So each round has all systems, in an order that changes,
and a ratio is the median of the ratios of all rounds: it compares figures that were measured seconds apart.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Protocol

Figures = Mapping[str, float]
"""The result of one round of one system: figures by name. The name includes the unit."""

Rounds = dict[tuple[str, str], list[float]]
"""A figure of a system, by both their names, in each round."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 1.0
    """How long a round of one system should take, in seconds, if the benchmark can choose."""
    backlog: int = 5_000_000
    """How many events wait in the largest backlog."""


@dataclass(frozen=True)
class System:
    """Something that is measured.

    Args:
        run: does one round of this many events, batches or calls, and returns its figures.
        first: the number for the round that warms the system up and shows its rate.
        step: all other rounds use a multiple of this.
        rate: the figure that tells how many it does in a second. Without one, all rounds use ``first``.
        share: the share of a round's usual time that it takes.
    """

    name: str
    run: Callable[[int], Figures]
    first: int
    step: int = 1
    rate: str = ""
    share: float = 1.0


@dataclass(frozen=True)
class Claim:
    """The target for one of our figures: a multiple of a peer's, or without a peer, in the figure's unit."""

    figure: str
    of: str
    target: float
    against: str = ""
    against_figure: str = ""
    """The peer's figure, if it has another name."""
    at_most: bool = False
    what: str = ""
    """The subject of the claim, if the row has several."""

    def ratios(self, rounds: Rounds) -> list[float]:
        """The result in each round."""
        ours = rounds[self.of, self.figure]
        if not self.against:
            return ours
        theirs = rounds[self.against, self.against_figure or self.figure]
        return [mine / other for mine, other in zip(ours, theirs, strict=True)]

    def met(self, ratio: float) -> bool:
        return ratio <= self.target if self.at_most else ratio >= self.target


class Row(Protocol):
    """One line of the table: its subject, and how it is measured."""

    @property
    def NAME(self) -> str: ...  # noqa: N802 - a module's constants

    @property
    def TITLE(self) -> str: ...  # noqa: N802

    @property
    def CLAIMS(self) -> Sequence[Claim]: ...  # noqa: N802

    def systems(self, scale: Scale, stack: ExitStack) -> Iterable[System]:
        """The started systems. What must end after the last round is put on the stack."""
        ...


def measure(row: Row, scale: Scale) -> Rounds:
    """Measure a row. A row without claims is a curve, and has one round.

    Raises WrongError if any system lost, changed or doubled an event.
    """
    found: Rounds = {}
    rounds = scale.rounds if row.CLAIMS else 1
    with ExitStack() as stack:
        systems = list(row.systems(scale, stack))
        counts = [_warm_up(row, system, scale) if row.CLAIMS else system.first for system in systems]
        turns = list(zip(systems, counts, strict=True))
        for number in range(rounds):
            for system, count in turns:
                _tell(f"{row.NAME}: round {number + 1} of {rounds}, {system.name}")
                for figure, value in system.run(count).items():
                    found.setdefault((system.name, figure), []).append(value)
            turns = turns[1:] + turns[:1]
    _tell("")
    return found


def _warm_up(row: Row, system: System, scale: Scale) -> int:
    """The number for one round."""
    _tell(f"{row.NAME}: warming up {system.name}")
    if not system.rate:
        system.run(max(1, system.first // 10))
        return system.first
    figures = system.run(system.first)
    count = figures[system.rate] * scale.seconds * system.share
    return max(1, round(count / system.step)) * system.step


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{what}")
        sys.stderr.flush()


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, the least and the greatest value."""
    return median(values), min(values), max(values)
