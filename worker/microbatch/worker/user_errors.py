"""Errors of the user's code, as they are stored and as they may be logged."""

from __future__ import annotations

import traceback

from microbatch.broker.process import loggable


def summarize(error: BaseException | str) -> str:
    """An error on one line."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # noqa: BLE001 - an error's own __str__ is the user's code too
        lines = []
    if isinstance(error, str):
        return lines[0] if lines else "failed"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def kind_of(error: BaseException | str) -> str:
    """The error's class name, which never quotes an event."""
    return "an error that the processor named" if isinstance(error, str) else type(error).__name__


def locate(error: BaseException | str) -> str:
    """An error as it may be logged: its kind and where it was raised. Its text may quote events."""
    return kind_of(error) if isinstance(error, str) else loggable.locate(error)


def formatted(error: BaseException | str) -> str:
    """The error's traceback, from the user's code on; empty if it is a text."""
    if isinstance(error, str):
        return ""
    begin_at_user_code(error)
    return "".join(traceback.format_exception(error))


def begin_at_user_code(error: BaseException) -> None:
    """Remove the frames before the processor from a traceback: the processor's author knows none of them."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith("microbatch."):
        frame = frame.tb_next
    if frame is not None:
        error.__traceback__ = frame
