"""Arguments and options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from microbatch.broker.process.log_format import LEVEL_VARIABLE
from microbatch.ops import logs

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _set_log_level(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        logs.set_up(value)


def log_level(function: F) -> F:
    """``--log-level``: how much is logged, here and in the processes that this one starts."""
    return click.option(
        "--log-level",
        type=click.Choice(logs.LEVELS, case_sensitive=False),
        expose_value=False,
        callback=_set_log_level,
        help=f"How much to log on standard error; without it {LEVEL_VARIABLE} decides.",
    )(function)


def app(function: F) -> F:
    """``APP``: where the batcher's Config is."""
    return click.argument("app")(function)


def target(function: F) -> F:
    """``TARGET``: an app, or a batcher's name."""
    return click.argument("target", metavar="TARGET")(function)


def no_wait(function: F) -> F:
    """``--no-wait``, as the parameter ``wait`` in seconds: None or 0."""
    return click.option(
        "--no-wait",
        "wait",
        is_flag=True,
        flag_value=0.0,
        default=None,
        type=float,
        help="End at once, with exit code 2, if the server is away. Without this, wait for it.",
    )(function)


def workers(function: F) -> F:
    """``--workers N``: how many worker processes to start."""
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=2,
        show_default=True,
        metavar="N",
        help="How many worker processes to start.",
    )(function)
