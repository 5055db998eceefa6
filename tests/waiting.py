"""Waiting for a condition instead of a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


def wait_until(predicate: Callable[[], T], timeout: float = 30, message: str | Callable[[], str] = "") -> T:
    """Call ``predicate`` until it returns a true value, and return that value.

    After ``timeout`` seconds, raises AssertionError with what was waited for. A callable ``message`` is
    called only then, so it can describe the state at that time.
    """
    started = time.monotonic()
    pause = _FIRST_PAUSE
    while not (value := predicate()):
        if time.monotonic() - started > timeout:
            name = getattr(predicate, "__qualname__", repr(predicate))
            awaited = message() if callable(message) else message
            raise AssertionError(f"waited {timeout:g} s in vain for {awaited or name} (last seen: {value!r})")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
    return value
