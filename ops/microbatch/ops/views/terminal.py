"""Writes to the terminal: the output of every command passes through here and is made plain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.table import Table

from microbatch.broker.process.plain import plain
from microbatch.ops.views.json_lines import json_line

_WIDE = 200  # columns


def say(text: str = "", *, err: bool = False) -> None:
    """Write a text and a newline to standard output, or to standard error."""
    click.echo(plain(text), err=err)  # noqa: TID251 - it is banned elsewhere


def say_json(value: object) -> None:
    """Write a value to standard output as one line of JSON."""
    click.echo(json_line(value))  # noqa: TID251 - the same


def show(renderable: RenderableType) -> None:
    """Write something to standard output. Lines may be longer than the terminal is wide."""
    Console(soft_wrap=True).print(_Plain(renderable))


def show_table(table: Table) -> None:
    """Write a table to standard output: as wide as the terminal, or wider if it is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, _WIDE))
    console.print(_Plain(table))


def screen(renderable: RenderableType) -> Live:
    """A full screen that shows something, for a ``with`` block. Update it with `renew`."""
    return Live(_Plain(renderable), screen=True, auto_refresh=False)


def renew(live: Live, renderable: RenderableType) -> None:
    """Show something else on the screen."""
    live.update(_Plain(renderable), refresh=True)


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return Console().is_terminal


@dataclass(frozen=True, slots=True)
class _Plain:
    """Something for rich to show, with all of its text plain."""

    renderable: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)
