"""The heart: shows the scheduler that a batch's worker is alive, while the processor has its thread.

One thread per process, which beats for the batch at hand, and tells of a run that takes long enough to be
shown to people. When a run is long past its time limit and
the interpreter could not be interrupted (a C extension that never returns), the heart ends the process:
the batch is run elsewhere, and a new worker takes this one's place.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from microbatch.broker import policy
from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.in_flight import TakenBatch

log = logging.getLogger(__name__)

RUN_TTL_MS = policy.RUN_TTL_MS
BEAT_SECONDS = 2.0
LONG_RUN_SECONDS = 0.5
"""How long a run may take before somebody is told of it."""
GRACE_SECONDS = 5.0
"""How long past its time limit a run may go on before its process is ended."""


class Heart:
    """Beats for one batch at a time.

    Args:
        broker: the batcher's.
        batch_timeout: the time limit of a run, in seconds.
    """

    def __init__(self, broker: Broker, batch_timeout: float) -> None:
        self._broker = broker
        self._limit_seconds = batch_timeout + GRACE_SECONDS
        self._changed = threading.Condition()
        self._batch: TakenBatch | None = None
        self._since = 0.0
        self._limit_at = inf
        self._told: TakenBatch | None = None
        self._beat_at = 0.0
        self._missed = False
        self._thread: threading.Thread | None = None
        self.on_long_run: Callable[[TakenBatch], None] = _nobody_asks
        """Told once of each batch whose run takes long, on the heart's thread."""

    @contextmanager
    def beating_for(self, batch: TakenBatch) -> Iterator[None]:
        """Beat for ``batch`` while the block runs."""
        self._set(batch)
        try:
            yield
        finally:
            self._set(None)

    def processed(self) -> None:
        """The processor has returned: from now on there is no limit, a server that is away is waited for."""
        self._limit_at = inf

    @property
    def is_overdue(self) -> bool:
        """Whether the processor has been at the batch for longer than its process may go on."""
        return time.monotonic() > self._limit_at

    def _set(self, batch: TakenBatch | None) -> None:
        with self._changed:
            self._batch, self._since = batch, time.monotonic()
            self._limit_at = inf if batch is None else self._since + self._limit_seconds
            if batch is not None and self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)
                self._thread.start()

    def _beat(self) -> None:
        while True:
            time.sleep(min(BEAT_SECONDS, LONG_RUN_SECONDS) / 2)
            with self._changed:
                batch, since = self._batch, self._since
            if batch is not None:
                try:
                    self._beat_for(batch, since)
                except Exception:  # noqa: BLE001 - a handler of the app's log may raise anything
                    traceback.print_exc()

    def _beat_for(self, batch: TakenBatch, since: float) -> None:
        now = time.monotonic()
        if batch is not self._told and now - since >= LONG_RUN_SECONDS:
            self._told = batch
            self._tell(batch)
        if self.is_overdue:
            self._end_process(batch)  # with no more beat, on which its batch would wait
        elif now >= max(since + BEAT_SECONDS, self._beat_at):
            self._beat_at = now + BEAT_SECONDS / 2
            self._renew(batch)

    def _tell(self, batch: TakenBatch) -> None:
        try:
            self.on_long_run(batch)
        except Exception:
            # Whatever it is, it must not end the heart: the batch would be taken for its worker's last.
            log.exception("%s: batch %s: its run can't be shown", self._broker.config.name, batch.id)

    def _renew(self, batch: TakenBatch) -> None:
        try:
            renewed = self._broker.ledger.renew(batch, due_ms=self._broker.clock.now_ms() + RUN_TTL_MS)
        except ServerError as error:
            if not self._missed:
                log.warning("%s: batch %s: no heartbeat: %s", self._broker.config.name, batch.id, error)
            self._missed = True
            return
        self._missed = False
        if not renewed and self._batch is batch:
            log.warning("%s: batch %s: it was given to another worker", self._broker.config.name, batch.id)

    def _end_process(self, batch: TakenBatch) -> None:
        log.critical(
            "%s: batch %s: still running %d s past its time limit; ending this worker",
            self._broker.config.name, batch.id, GRACE_SECONDS,
        )  # fmt: skip
        os.kill(os.getpid(), signal.SIGKILL)


def _nobody_asks(batch: TakenBatch) -> None:
    """What is told of long runs where nothing else is set."""
