"""The runner: claims a batch, calls the processor, commits the outcome."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from microbatch.broker.app.config import Config
from microbatch.broker.app.functions import UserFunction
from microbatch.broker.broker import Broker
from microbatch.broker.errors import ConfigError, DecodeError, InDoubt
from microbatch.broker.policy.verdict import is_out_of_time
from microbatch.broker.process.frames import release_locals
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.broker.wire import identity
from microbatch.broker.wire.batch import BatchInfo, PartialFailure
from microbatch.broker.wire.ending import PLAIN_END, Ending
from microbatch.broker.wire.in_flight import Claim, ClaimedBatch
from microbatch.broker.wire.outcome import Outcome
from microbatch.worker.doubts import Doubts
from microbatch.worker.failure_recorder import FailureRecorder
from microbatch.worker.forks import forks_end_here
from microbatch.worker.own_results import OwnResults
from microbatch.worker.result_body import result_body
from microbatch.worker.run_report import RunReport
from microbatch.worker.run_watch import RunWatch
from microbatch.worker.slot import Slot
from microbatch.worker.telling import tell_claimed, tell_committed
from microbatch.worker.unreadable import body_of, without_unreadable


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a batch that is over and not recorded yet."""

    batch: ClaimedBatch
    ending: Ending | None = None
    """How the events end that are done; None if the whole batch failed."""
    error: BaseException | None = None
    """What the processor raised. A `PartialFailure` beside an ending concerns a part of the batch."""


class BatchRunner:
    """Runs batches of one batcher in this process, one at a time.

    Args:
        config: the batcher's settings.
        broker: the batcher's verbs; without it they are made from the settings.
        slot: where to note claims, if a pool watches this process.

    Raises:
        ConfigError: the config has no usable processor, or no server.
    """

    def __init__(self, config: Config, *, broker: Broker | None = None, slot: Slot | None = None) -> None:
        if config.batch_processor is None:
            raise ConfigError(f"batcher {config.name!r} has no batch_processor for its workers to run")
        self.config = config
        self.broker = broker if broker is not None else Broker(config)
        self._process = UserFunction("batch_processor", config.batch_processor)
        self._decoder = self._process.item_decoder()
        self._own_results = OwnResults(config, self._call) if config.per_event else None
        self._body = partial(body_of, most_bytes=config.max_event_bytes)
        self.run_watch = RunWatch(self.broker, config.batch_timeout, slot)
        self.doubts = Doubts(self.broker)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:"
        self._failures = FailureRecorder(self.broker)

    def run(self, batch_id: str, *, enqueued_at: datetime | None = None) -> RunReport:
        """Run one batch and record its outcome, once, however often this is called for the same batch.

        A dead batch whose job was enqueued after its death, because a person requeued it, is run again.
        Returns a report of what became of the batch.

        Raises:
            DecodeError: this is not a batch's id, or the batch can't be read.
            ServerError: the server can't be asked; the batch stays in flight and is run again.
        """
        if not identity.is_batch_id(batch_id):
            raise DecodeError(f"{batch_id[:50]!r} is not a batch's id")
        batch = self.claim(batch_id)
        if batch is None and enqueued_at is not None and self._revive(batch_id, enqueued_at):
            batch = self.claim(batch_id)
        if batch is None:
            return RunReport("nothing to do: it is committed or dead, or another worker is at it")
        with self.run_watch.beating_for(batch):
            return self.record_outcome(self.process(batch))

    def claim(self, batch_id: str) -> ClaimedBatch | None:
        """Claim a batch for one run. Returns None if there is nothing to run. Raises as `run` does."""
        claim = self.new_claim()
        try:
            batch = self.broker.ledger.claim(
                batch_id, owner=claim.owner, now_ms=claim.now_ms, due_ms=claim.due_ms
            )
        except (InDoubt, DecodeError):
            if (batch := self.doubts.resolve_until_answered(claim)) is None:
                raise
        if batch is None:
            self.run_watch.claimed_nothing()
        else:
            tell_claimed(self.broker, batch, claim)
        return batch

    def new_claim(self) -> Claim:
        """A new claim for the next run in this process, noted before it is made. Raises ServerError."""
        now_ms = self.broker.clock.now_ms()
        claim = Claim(f"{self._owner}{secrets.token_hex(4)}", now_ms, now_ms + self.broker.timing.run_ttl_ms)
        self.run_watch.claiming(claim)
        return claim

    def process(self, batch: ClaimedBatch) -> Run:
        """Call the processor. The returned run holds whatever the processor raised."""
        try:
            run = self._process_events(batch)
        except BaseException as error:  # noqa: BLE001 - sys.exit() too: that fails the batch, not the worker
            run = Run(batch, error=error)
        finally:
            self.run_watch.processed()
        if run.error is not None:
            release_locals(run.error)
        return run

    def record_outcome(self, run: Run) -> RunReport:
        """Record the outcome of a run, and report it. Raises as `run` does."""
        if run.error is None:
            return RunReport("done" if self.commit(run) else "nothing changed: another worker was first")
        if isinstance(run.error, PartialFailure) and run.ending is not None:
            return self._failures.record_partial(run.batch, run.error, run.ending)
        return self._failures.record(run.batch, run.error)

    def commit(self, run: Run) -> bool:
        """Record that a run succeeded, and retry until the server answers. False if another was first."""
        batch, commit = run.batch, self.broker.ledger.commit
        ending = run.ending or PLAIN_END
        is_ours = retry_until_answered(self.config.name, lambda: commit(batch.id, ending))
        if is_ours:
            tell_committed(self.broker, batch, batch.header.size - ending.expired)
        return is_ours

    def _revive(self, batch_id: str, enqueued_at: datetime) -> bool:
        due_ms = self.broker.clock.now_ms() + self.broker.timing.run_ttl_ms
        died_before_ms = int(enqueued_at.timestamp() * 1000)
        return self.broker.dead.requeue(batch_id, due_ms=due_ms, died_before_ms=died_before_ms)

    def _process_events(self, batch: ClaimedBatch) -> Run:
        info = BatchInfo.of(self.config.name, batch.id, batch.header, batch.run.attempt, batch.recorded_at_ms)
        try:
            events = self._decoder.many(list(map(self._body, batch.events)))
        except DecodeError:
            late = is_out_of_time(batch.run, self.broker.policy, self.broker.clock.now_ms())
            if late or (sorted_out := without_unreadable(batch, self._body)) is None:
                raise
            return Run(batch, PLAIN_END, sorted_out)
        if self._own_results is not None:
            return Run(batch, *self._own_results.run(batch, events, info))
        try:
            return Run(batch, self._ending(batch, self._call(events, info)))
        except PartialFailure as failure:
            if wrong := sorted(position for position in failure.errors if not 0 <= position < len(events)):
                raise ValueError(
                    f"PartialFailure names positions {wrong} of {len(events)} events"
                ) from failure
            return Run(batch, self._ending(batch, failure.result), failure if failure.errors else None)

    def _call(self, events: list[Any], info: BatchInfo) -> Any:
        with forks_end_here():
            return self._process(events, info)

    def _ending(self, batch: ClaimedBatch, result: object) -> Ending:
        """How a batch ends whose result is for the result handler."""
        if result is None or self.config.results == "discard":
            return PLAIN_END
        body = result_body(result, self.config.max_result_bytes)
        attempt = batch.run.attempt
        return Ending(Outcome(batch.id, batch.header, attempt, batch.recorded_at_ms, result=body).encode())
