"""The pool: keeps a number of worker processes running.

Each is a process of its own from the start, not a fork of a loaded app, so nothing that the app opened
or started on import is shared between them.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from types import FrameType

from microbatch.worker.lifeline import lifeline

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_SHORT_LIFE_SECONDS = 2.0
_LONGEST_BACK_OFF_SECONDS = 10.0


@dataclass
class _Place:
    """One worker's place in the pool, and the process that holds it now."""

    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    back_off: float = field(default=0.0)


class WorkerPool:
    """Runs ``concurrency`` worker processes of one app, and starts another for each that dies."""

    def __init__(self, app: str, concurrency: int) -> None:
        self._command = [sys.executable, "-m", "microbatch.worker", app]
        self._places = [_Place() for _ in range(concurrency)]
        self._stop = threading.Event()
        self._signals = 0

    def run(self) -> None:
        """Work until SIGTERM or SIGINT: workers finish the batch in hand. A second signal kills them."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._stop.is_set():
            for place in self._places:
                self._fill(place)
            self._stop.wait(_LOOK_SECONDS)
        self._signal_all(signal.SIGTERM)
        killed = False
        while any(place.process is not None and place.process.poll() is None for place in self._places):
            if self._signals > 1 and not killed:
                log.warning("stopping hard: the batches in hand are run again elsewhere")
                self._signal_all(signal.SIGKILL)
                killed = True
            time.sleep(_LOOK_SECONDS / 4)

    def _fill(self, place: _Place) -> None:
        now = time.monotonic()
        process = place.process
        if process is not None:
            code = process.poll()
            if code is None:
                return
            short = now - place.started_at < _SHORT_LIFE_SECONDS
            place.back_off = min(max(0.5, place.back_off * 2), _LONGEST_BACK_OFF_SECONDS) if short else 0.0
            log.warning("worker %d ended with %s; starting another", process.pid, _outcome(code))
            place.process, place.start_at = None, now + place.back_off
        if now >= place.start_at:
            # Its own session: a Ctrl-C reaches the pool alone, which passes it on once.
            place.process = subprocess.Popen(  # noqa: S603 - this interpreter and the app it was started with
                self._command,
                start_new_session=True,
                preexec_fn=lifeline(signal.SIGKILL),  # noqa: PLW1509 - the pool has no threads
            )
            place.started_at = now

    def _signal_all(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.process is not None and place.process.poll() is None:
                os.kill(place.process.pid, number)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._stop.set()


def _outcome(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
