"""Describes errors for the log, without text that may quote an event.

An error's text comes from the user's code, as in ``ValueError(f"bad {event}")``. That is also true of a
Microbatch error that the user's code has made. For errors that Microbatch itself raised, the loggable text is
in `MicrobatchError.public`.
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
    """One line: an error's kind, and where it was raised or, if Microbatch raised it, its public message."""
    kind, frame = type(error).__name__, _last(error.__traceback__)
    if isinstance(error, MicrobatchError) and frame is not None and _is_ours(frame):
        return f"{kind}: {' '.join(error.public.split())}"
    if frame is None:
        return kind
    code = frame.tb_frame.f_code
    return f"{kind} in {code.co_name} ({Path(code.co_filename).name}:{frame.tb_lineno})"


def message(error: BaseException) -> str:
    """The loggable text of an error that one of Microbatch's own calls raised."""
    return error.public if isinstance(error, MicrobatchError) else locate(error)


def trace(error: BaseException) -> str:
    """An error as `locate` describes it, followed by its traceback."""
    return "\n".join([locate(error), *(line.rstrip() for line in traceback.format_tb(error.__traceback__))])


def tell_of_a_task(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001 - asyncio's
    """Log an error of asyncio, such as that of a task that nobody awaited, without the error's text."""
    error = context.get("exception")
    where = f": {locate(error)}" if isinstance(error, BaseException) else ""
    log.error("asyncio: %s%s", context.get("message", "an error"), where)


def _last(frame: TracebackType | None) -> TracebackType | None:
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame


def _is_ours(frame: TracebackType) -> bool:
    return str(frame.tb_frame.f_globals.get("__name__", "")).startswith("microbatch.")
