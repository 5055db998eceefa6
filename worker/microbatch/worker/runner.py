"""The runner: takes a batch, calls the processor, commits the outcome.

take ──▶ process ──▶ commit
            └─ raises ──▶ retry later, or bury
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from microbatch.broker import codec, wire
from microbatch.broker.batch import BatchInfo
from microbatch.broker.broker import Broker
from microbatch.broker.config import Config
from microbatch.broker.errors import ConfigError, InDoubt, MicrobatchError, Unavailable
from microbatch.broker.functions import UserFunction
from microbatch.broker.ledger import TakenBatch
from microbatch.broker.results import Outcome
from microbatch.broker.server import Value
from microbatch.broker.wire import Failure
from microbatch.worker.heart import RUN_TTL_MS, Heart
from microbatch.worker.retrying import retry_delay

log = logging.getLogger(__name__)

_INSIST_SECONDS = 90.0
_LONGEST_BACK_OFF_SECONDS = 5.0


class BatchDead(MicrobatchError):
    """A batch was given up: its processor failed for the last time."""


class BatchRunner:
    """Runs batches of one batcher in this process, one at a time.

    Raises:
        ConfigError: the config has no usable processor, or no server.
    """

    def __init__(self, config: Config, *, broker: Broker | None = None) -> None:
        if config.batch_processor is None:
            raise ConfigError(f"batcher {config.name!r} has no batch_processor for its workers to run")
        self.config = config
        self.broker = broker if broker is not None else Broker(config)
        self._process = UserFunction("batch_processor", config.batch_processor)
        self._decoder = self._process.item_decoder()
        self._heart = Heart(self.broker, config.batch_timeout)

    def run(self, batch_id: str) -> str:
        """Run one batch and record its outcome, once, however often it is called for the same batch.

        Returns what came of it. Raises BatchDead when the batch was given up, and ServerError when the
        server can't be asked: then the batch stays in flight and is run again.
        """
        now_ms = self.broker.clock.now_ms()
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        batch = self.broker.ledger.take(batch_id, owner=owner, now_ms=now_ms, due_ms=now_ms + RUN_TTL_MS)
        if batch is None:
            return "nothing to do: it is committed or dead, or another worker is at it"
        with self._heart.beating_for(batch):
            try:
                entry = self._outcome(batch)
            except Exception as error:  # noqa: BLE001 - whatever the user's code raises is its batch's failure
                return self._failed(batch, error)
            committed = self._insist(lambda: self.broker.ledger.commit(batch.id, entry))
        return "done" if committed else "nothing changed: another worker was first"

    def _outcome(self, batch: TakenBatch) -> list[Value]:
        """Call the processor. Returns its result's entry on the stream; empty if it returned None."""
        info = BatchInfo.of(self.config.name, batch.id, batch.header, batch.run.attempt, batch.recorded_at_ms)
        events = self._decoder.many([wire.event_body(raw) for raw in batch.events])
        result = self._process(events, info)
        if result is None:
            return []
        body = codec.encode(result, "result")
        return Outcome(batch.id, batch.header, batch.run.attempt, batch.recorded_at_ms, result=body).encode()

    def _failed(self, batch: TakenBatch, error: Exception) -> str:
        attempt, summary = batch.run.attempt, _summary(error)
        if attempt > self.config.max_retries:
            self._bury(batch, error, summary)
        delay = retry_delay(attempt, self.config.retry_delay)
        due_ms = self.broker.clock.now_ms() + int(delay * 1000)
        self._insist(lambda: self.broker.ledger.retry(batch, due_ms=due_ms))
        outlook = f"attempt {attempt} failed, again in {delay:.1f} s: {summary}"
        log.warning("%s: batch %s: %s", self.config.name, batch.id, outlook)
        return outlook

    def _bury(self, batch: TakenBatch, error: Exception, summary: str) -> NoReturn:
        attempt, now_ms = batch.run.attempt, self.broker.clock.now_ms()
        _begin_at_user_code(error)
        failure = Failure(summary, "".join(traceback.format_exception(error)), attempt)
        entry = Outcome(batch.id, batch.header, attempt, batch.recorded_at_ms, failure=failure).encode()
        self._insist(lambda: self.broker.ledger.bury(batch.id, batch.run, failure, entry, now_ms=now_ms))
        log.error("%s: batch %s: dead after %d attempts: %s", self.config.name, batch.id, attempt, summary)
        raise BatchDead(f"dead after {attempt} attempts: {summary}") from error

    def _insist(self, change: Callable[[], bool]) -> bool:
        """Make a change of the batch's state, and wait for a server that has gone away meanwhile.

        Each such change is guarded at the server, so one that may have been made can be asked for again.
        """
        give_up_at, back_off = time.monotonic() + _INSIST_SECONDS, 0.1
        while True:
            try:
                return change()
            except (Unavailable, InDoubt) as error:
                if time.monotonic() + back_off > give_up_at:
                    raise
                log.warning("%s: %s; trying again", self.config.name, error)
                time.sleep(back_off)
                back_off = min(back_off * 2, _LONGEST_BACK_OFF_SECONDS)


def _summary(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _begin_at_user_code(error: Exception) -> None:
    """Leave out of the traceback the frames from here to the processor: its author knows none of them."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith("microbatch."):
        frame = frame.tb_next
    if frame is not None:
        error.__traceback__ = frame
