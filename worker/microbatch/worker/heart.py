"""The heart: shows the scheduler that a batch's worker is alive, while the processor has its thread.

One thread per process, which beats for the batch at hand. When a run is long past its time limit and
the interpreter could not be interrupted (a C extension that never returns), the heart ends the process:
the batch is run elsewhere, and a new worker takes this one's place.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from microbatch.broker.broker import Broker
from microbatch.broker.errors import ServerError
from microbatch.broker.ledger import TakenBatch

log = logging.getLogger(__name__)

RUN_TTL_MS = 8_000
"""How long a worker may be silent before its batch is run elsewhere."""
BEAT_SECONDS = 2.0
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
        self._missed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def beating_for(self, batch: TakenBatch) -> Iterator[None]:
        """Beat for ``batch`` while the block runs."""
        self._set(batch)
        try:
            yield
        finally:
            self._set(None)

    def _set(self, batch: TakenBatch | None) -> None:
        with self._changed:
            self._batch, self._since = batch, time.monotonic()
            if batch is not None and self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)
                self._thread.start()

    def _beat(self) -> None:
        while True:
            with self._changed:
                batch, since = self._batch, self._since
            if batch is not None and time.monotonic() - since >= BEAT_SECONDS:
                self._renew(batch)
                if time.monotonic() - since > self._limit_seconds:
                    self._end_process(batch)
            time.sleep(BEAT_SECONDS / 2)

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
