"""The end of a process, as multiprocessing and Celery announce it.

Python's `atexit` is not enough: a child of ``multiprocessing`` or Celery ends with ``os._exit``, and calls
only what was registered with that library. A program that ends in the usual way, such as a worker of
gunicorn, calls what was registered with ``multiprocessing`` too. RQ offers no such hook.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Any


class AtTheEnd:
    """Calls ``function`` when this process ends, once or more than once, if the host allows it.

    Celery's children send ``worker_process_shutdown``.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._finalizer = Finalize(None, function, exitpriority=0)
        self._signal: Any = getattr(sys.modules.get("celery.signals"), "worker_process_shutdown", None)
        if self._signal is not None:
            self._signal.connect(self._receive, weak=False)

    def cancel(self) -> None:
        """Stop calling the function."""
        self._finalizer.cancel()
        if self._signal is not None:
            self._signal.disconnect(self._receive)

    def _receive(self, **_about: object) -> None:
        self._function()


def is_job_of_rq() -> bool:
    """Whether this thread runs a job of an RQ worker. Such a process may end without calling anything."""
    current_job: Callable[[], object] | None = getattr(sys.modules.get("rq"), "get_current_job", None)
    return current_job is not None and current_job() is not None
