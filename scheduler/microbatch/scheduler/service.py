"""The scheduler process: runs one scheduler per batcher, each on its own thread, until a signal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from microbatch.broker.app.config import Config
from microbatch.broker.app.contradictions import warn_of_contradictions
from microbatch.broker.inspect.risks import risks
from microbatch.broker.process.loggable import trace
from microbatch.broker.process.signals import StopSignals
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.scheduler.scheduler import Scheduler

log = logging.getLogger(__name__)


class SchedulerService:
    """Runs the schedulers of several batchers in this process.

    Args:
        configs: the batchers.
        look_seconds: how late it may see a signal that the system delivered to another thread.
    """

    def __init__(self, configs: Sequence[Config], *, look_seconds: float = 0.5) -> None:
        self._schedulers = [Scheduler(config) for config in configs]
        self._look_seconds = look_seconds
        self._signals = StopSignals()
        self._ended = False
        self._failed = False

    def check(self, *, wait: float | None = 0.0) -> None:
        """Check each server, and warn if it can lose events.

        Waits up to ``wait`` seconds for a server that is unavailable; None means without limit. Raises
        ServerError if a server can't be reached or used.
        """
        for scheduler in self._schedulers:
            server = scheduler.broker.server
            warn_of_contradictions(scheduler.config)
            retry_until_answered(scheduler.config.name, server.check_version, wait)
            log.info("%s: scheduling, at %s", scheduler.config.name, server.where)
            for risk in risks(server):
                log.warning("%s: %s", scheduler.config.name, risk)

    def run(self) -> bool:
        """Work until SIGTERM, SIGINT or SIGHUP. Returns False if a scheduler failed for good.

        That means that a new start of the same scheduler would fail again.
        """
        with self._signals:
            threads = [
                threading.Thread(target=self._run_one, args=(scheduler,), name=scheduler.config.name)
                for scheduler in self._schedulers
            ]
            for thread in threads:
                thread.start()
            # In a loop, because a signal that the system delivers to another thread does not end the wait.
            while not (self._signals.count or self._ended):
                self._signals.wait(self._look_seconds)
            for scheduler in self._schedulers:
                scheduler.stop()
            for thread in threads:
                thread.join()
        return not self._failed

    def _run_one(self, scheduler: Scheduler) -> None:
        try:
            scheduler.run()
        except Exception as error:  # noqa: BLE001 - an unknown error would come again
            name, failure = scheduler.config.name, trace(error)
            log.error("%s: the scheduler failed; ending the process: %s", name, failure)  # noqa: TRY400
            self._failed = True
        finally:
            self._ended = True
            self._signals.notify()
