"""Imports of apps and of modules that settings name. They must not start a program; a slow one is logged.

Every process of a batcher imports the app, so each process does whatever the app does during its import.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from microbatch.broker.errors import AppError

log = logging.getLogger(__name__)

_OURS = "microbatch."
_NOT_THE_APPS = (_OURS, "importlib.")

_importing: dict[int, str] = {}  # by thread


@contextmanager
def importing(what: str, slow_seconds: float = 5.0) -> Iterator[None]:
    """Mark the block as an import of ``what`` by this thread. If it takes ``slow_seconds``, log a warning."""
    thread = threading.get_ident()
    if thread in _importing:
        yield
        return
    _importing[thread] = what
    slow = threading.Timer(slow_seconds, _tell, (what, thread, slow_seconds))
    slow.daemon = True
    slow.start()
    try:
        yield
    finally:
        slow.cancel()
        del _importing[thread]


def refuse_while_importing(call: str) -> None:
    """Raises AppError if this thread is importing an app: ``call`` names a call that only programs make."""
    if threading.get_ident() not in _importing:
        return
    raise AppError(
        f"{_place(inspect.currentframe())}: it calls {call} while it is imported, and every worker and "
        'scheduler imports the app; put the program under `if __name__ == "__main__":`, or into a function'
    )


def _tell(what: str, thread: int, seconds: float) -> None:
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - Python's documented way to see another thread
    if _importing.get(thread) == what:
        log.warning("still importing %s after %g s; it is at %s", what, seconds, _place(frame))


def _place(frame: FrameType | None) -> str:
    """The innermost line of a module that is being imported and is neither Microbatch's nor Python's."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        is_module = frame.f_code.co_name == "<module>"
        if is_module and not name.startswith(_NOT_THE_APPS) and not _is_pythons(name):
            return f"{frame.f_code.co_filename}, line {frame.f_lineno}"
        frame = frame.f_back
    return "the app"


def _is_pythons(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names and name != "__main__"
