"""The end of a process, as Celery, gunicorn and multiprocessing announce it.

Python's `atexit` is not enough: a child of ``multiprocessing`` or Celery ends by ``os._exit``, and calls only
what was registered with these. RQ offers nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Any


class AtTheEnd:
    """Calls ``function`` when this process ends, as long as its host lets it: once or more often.

    Celery's children send ``worker_process_shutdown``.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._finalizer = Finalize(None, function, exitpriority=0)
        self._signal: Any = getattr(sys.modules.get("celery.signals"), "worker_process_shutdown", None)
        if self._signal is not None:
            self._signal.connect(self._receive, weak=False)

    def cancel(self) -> None:
        """Call it no more."""
        self._finalizer.cancel()
        if self._signal is not None:
            self._signal.disconnect(self._receive)

    def _receive(self, **_about: object) -> None:
        self._function()


def is_job_of_rq() -> bool:
    """Whether this thread runs a job of an RQ worker. Its process may end without anything being called."""
    current_job: Callable[[], object] | None = getattr(sys.modules.get("rq"), "get_current_job", None)
    return current_job is not None and current_job() is not None
