"""RQ's time limit on a run, which another thread can end early.

RQ stops a job by killing the process that runs it, which it can't do if the worker itself runs the job. This
module uses what the limit already has: a signal, ``SIGALRM``, whose handler raises in the main thread. It
relies on ``UnixSignalDeathPenalty`` of RQ 3.0: on ``setup_death_penalty``, on ``cancel_death_penalty``, in
which a ``BaseTimeoutException`` is caught, and on ``handle_death_penalty``.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, ClassVar

from rq.timeouts import BaseTimeoutException, UnixSignalDeathPenalty

from microbatch.worker import failure_recorder


class RunStopped(failure_recorder.RunStopped, BaseTimeoutException):
    """A person stopped the run. RQ's own exception, so that RQ catches it if it comes as the limit ends."""


class RunLimit(UnixSignalDeathPenalty):
    """Raises in its ``with`` block: the given exception when time is up, or RunStopped."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _current: ClassVar[RunLimit | None] = None

    stopped = False
    """Whether the run was stopped by hand."""
    raised: BaseException | None = None
    """What this raised in the block, which may have caught it."""

    @classmethod
    def stop_current(cls) -> None:
        """Stop the current run in this process, if there is one. For any thread but the main one."""
        with cls._lock:
            # A processor may have replaced the handler. Without ours the signal could end the process.
            if (
                cls._current is not None
                and signal.getsignal(signal.SIGALRM) == cls._current.handle_death_penalty
            ):
                cls._current.stopped = True
                os.kill(os.getpid(), signal.SIGALRM)

    def setup_death_penalty(self) -> None:
        super().setup_death_penalty()  # type: ignore[no-untyped-call]
        with self._lock:
            RunLimit._current = self

    def cancel_death_penalty(self) -> None:
        try:
            with self._lock:
                RunLimit._current = None
        finally:  # a stop may raise in the lines above
            RunLimit._current = None
            super().cancel_death_penalty()  # type: ignore[no-untyped-call]

    def handle_death_penalty(self, signum: int, frame: Any) -> None:
        try:
            if self.stopped:
                raise RunStopped("stopped by hand")
            super().handle_death_penalty(signum, frame)  # type: ignore[no-untyped-call]
        except BaseTimeoutException as error:
            self.raised = error
            raise
