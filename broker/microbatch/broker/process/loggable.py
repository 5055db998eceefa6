"""Errors as they may be logged: without text that may quote an event.

An error's text is the user's: ``ValueError(f"bad {event}")``. So is that of an error of ours which the user's
code has made. What we have raised ourselves says in `MicrobatchError.public` what may be logged of it.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from microbatch.broker.errors import MicrobatchError

log = logging.getLogger(__name__)


def locate(error: BaseException) -> str:
    """An error on one line: its kind, and where it was raised; if by us, what it says as well."""
    kind, frame = type(error).__name__, _last(error.__traceback__)
    if isinstance(error, MicrobatchError) and frame is not None and _is_ours(frame):
        return f"{kind}: {' '.join(error.public.split())}"
    if frame is None:
        return kind
    code = frame.tb_frame.f_code
    return f"{kind} in {code.co_name} ({Path(code.co_filename).name}:{frame.tb_lineno})"


def message(error: BaseException) -> str:
    """What an error says that one of our own calls has raised, as far as it may be logged."""
    return error.public if isinstance(error, MicrobatchError) else locate(error)


def trace(error: BaseException) -> str:
    """An error as `locate` has it, and the places on its way, one to a line."""
    return "\n".join([locate(error), *(line.rstrip() for line in traceback.format_tb(error.__traceback__))])


def tell_of_a_task(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001 - asyncio's
    """Log what asyncio would log with the error's text: of a task that nobody has waited for, for example."""
    error = context.get("exception")
    where = f": {locate(error)}" if isinstance(error, BaseException) else ""
    log.error("asyncio: %s%s", context.get("message", "an error"), where)


def _last(frame: TracebackType | None) -> TracebackType | None:
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame


def _is_ours(frame: TracebackType) -> bool:
    return str(frame.tb_frame.f_globals.get("__name__", "")).startswith("microbatch.")
