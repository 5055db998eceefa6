"""A progress bar, shown only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def progress_bar(verb: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the block runs. It yields a function to call with each number of steps.

    ``total`` is None if it is not known.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _steps: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(verb, total=total)
        yield lambda steps: progress.advance(task, steps)
