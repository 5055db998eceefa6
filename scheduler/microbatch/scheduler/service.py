"""The scheduler process: one scheduler per batcher, each on a thread of its own, until a signal."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from types import FrameType

from microbatch.broker.config import Config
from microbatch.broker.risks import risks
from microbatch.scheduler.scheduler import Scheduler

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5


class SchedulerService:
    """Runs the schedulers of several batchers in this process."""

    def __init__(self, configs: Sequence[Config]) -> None:
        self._schedulers = [Scheduler(config) for config in configs]
        self._stop = threading.Event()
        self._failed = False

    def check(self) -> None:
        """Raises ServerError if a server can't be reached or used; warns if it can lose events."""
        for scheduler in self._schedulers:
            server = scheduler.broker.server
            server.check_version()
            for risk in risks(server):
                log.warning("%s: %s", scheduler.config.name, risk)

    def run(self) -> bool:
        """Work until SIGTERM or SIGINT. Returns False if a scheduler failed, and waiting can't mend it."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        threads = [
            threading.Thread(target=self._run_one, args=(scheduler,), name=scheduler.config.name)
            for scheduler in self._schedulers
        ]
        for thread in threads:
            thread.start()
        # Again and again: a signal may be given to another thread, and is heeded when this one runs.
        while not self._stop.wait(_LOOK_SECONDS):
            pass
        for scheduler in self._schedulers:
            scheduler.stop()
        for thread in threads:
            thread.join()
        return not self._failed

    def _run_one(self, scheduler: Scheduler) -> None:
        try:
            scheduler.run()
        except Exception:
            log.exception("%s: the scheduler failed; ending the process", scheduler.config.name)
            self._failed = True
        finally:
            self._stop.set()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()
