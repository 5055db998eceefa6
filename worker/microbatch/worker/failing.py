"""Failing: what becomes of a batch whose processor raised.

retry ──▶ run again later                 while it has retries left
divide ─▶ its halves run by themselves    down to the events that really fail
bury ───▶ dead, with its events
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from pathlib import Path

from microbatch.broker.batch import PartialFailure
from microbatch.broker.broker import Broker
from microbatch.broker.errors import MicrobatchError
from microbatch.broker.events import Wake
from microbatch.broker.exchange import Value
from microbatch.broker.in_flight import Part, TakenBatch, halves_of, part_of
from microbatch.broker.patience import insist
from microbatch.broker.policy import Verdict, judge, retry_delay
from microbatch.broker.results import Outcome
from microbatch.broker.wire import Failure, RunRecord
from microbatch.worker.heart import RUN_TTL_MS

log = logging.getLogger(__name__)


class BatchDead(MicrobatchError):
    """A batch was given up, or these parts of it: the processor failed for the last time."""

    def __init__(self, message: str, parts: Sequence[tuple[Part, Failure]] = ()) -> None:
        super().__init__(message)
        self.parts = parts


class RunStopped(MicrobatchError):
    """Somebody had the run of a batch stopped."""


class Failing:
    """Records what becomes of a batcher's failed runs."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._config = broker.config

    def whole(self, batch: TakenBatch, error: BaseException) -> str:
        """A run failed. Returns what comes next; raises BatchDead if nothing does."""
        attempt, summary = batch.run.attempt, summarize(error)
        stopped = isinstance(error, RunStopped)
        match Verdict.BURY if stopped else judge(attempt, batch.header.size, self._config):
            case Verdict.RETRY:
                delay = retry_delay(attempt, self._config.retry_delay)
                due_ms = self._due_in(delay)
                insist(self._config.name, lambda: self._broker.ledger.retry(batch, due_ms=due_ms))
                return self._report(batch, error, f"attempt {attempt} failed, again in {delay:.1f} s")
            case Verdict.DIVIDE:
                parts = halves_of(batch, due_ms=self._due_in(0))
                insist(self._config.name, lambda: self._broker.ledger.divide(batch.id, batch.run, parts))
                self._broker.events.wake(Wake.LOOK)
                return self._report(batch, error, f"attempt {attempt} failed, its halves are run alone")
            case Verdict.BURY:
                if not self._bury(batch, batch.run, batch.recorded_at_ms, error):
                    return self._report(batch, error, f"attempt {attempt} failed, but another worker has it")
                raise BatchDead(f"dead at attempt {attempt}: {summary}") from error

    def in_part(self, batch: TakenBatch, partial: PartialFailure, entry: list[Value]) -> str:
        """Some events failed, the others are done. Returns what comes next, or raises BatchDead."""
        attempt, size = batch.run.attempt, batch.header.size
        if attempt <= self._config.max_retries:
            delay = retry_delay(attempt, self._config.retry_delay)
            parts = [part_of(batch, sorted(partial.errors), due_ms=self._due_in(delay))]
            insist(self._config.name, lambda: self._broker.ledger.divide(batch.id, batch.run, parts, entry))
            return self._report(
                batch, partial, f"{len(partial.errors)} of {size} events failed, again in {delay:.1f} s"
            )
        dead = self._bury_parts(batch, partial, entry)
        raise BatchDead(
            f"{len(partial.errors)} of {size} events dead at attempt {attempt}", dead
        ) from partial

    def _bury_parts(
        self, batch: TakenBatch, partial: PartialFailure, entry: list[Value]
    ) -> list[tuple[Part, Failure]]:
        """Each dead batch has one error, so the failed events are buried by what went wrong with them."""
        groups: dict[str, list[int]] = {}
        for position, error in sorted(partial.errors.items()):
            groups.setdefault(summarize(error), []).append(position)
        # Due in a while only: until then they are this worker's to bury. If it dies they are run once more.
        due_ms = self._due_in(RUN_TTL_MS / 1000)
        parts = [part_of(batch, positions, due_ms) for positions in groups.values()]
        insist(self._config.name, lambda: self._broker.ledger.divide(batch.id, batch.run, parts, entry))
        buried = [
            (part, self._bury(part, part.run, batch.recorded_at_ms, partial.errors[part.positions[0]]))
            for part in parts
        ]
        return [(part, failure) for part, failure in buried if failure is not None]

    def _bury(
        self, batch: TakenBatch | Part, run: RunRecord, recorded_ms: int, error: BaseException | str
    ) -> Failure | None:
        text = ""
        if isinstance(error, BaseException):
            _begin_at_user_code(error)
            text = "".join(traceback.format_exception(error))
        failure = Failure(summarize(error), text, run.attempt)
        entry = Outcome(batch.id, batch.header, run.attempt, recorded_ms, failure=failure).encode()
        now_ms = self._due_in(0)
        name, bury = self._config.name, self._broker.ledger.bury
        buried = insist(name, lambda: bury(batch.id, run, failure, entry, now_ms=now_ms))
        if buried:
            log.error("%s: batch %s: dead at attempt %d: %s", name, batch.id, run.attempt, locate(error))
        return failure if buried else None

    def _due_in(self, seconds: float) -> int:
        return insist(self._config.name, self._broker.clock.now_ms) + int(seconds * 1000)

    def _report(self, batch: TakenBatch, error: BaseException, outlook: str) -> str:
        _begin_at_user_code(error)
        log.warning("%s: batch %s: %s: %s", self._config.name, batch.id, outlook, locate(error))
        log.debug("%s: batch %s: %s", self._config.name, batch.id, error)
        return f"{outlook}: {summarize(error)}"


def summarize(error: BaseException | str) -> str:
    """An error on one line."""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # noqa: BLE001 - an error's own __str__ is the user's code as well
        lines = []
    if isinstance(error, str):
        return lines[0] if lines else "failed"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def locate(error: BaseException | str) -> str:
    """An error as it may be logged: its kind and where it was raised. Its message may quote events."""
    if isinstance(error, str):
        return "an error that the processor named"
    if isinstance(error, MicrobatchError):
        return summarize(error)  # our own quote nothing
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].name} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{place}"


def _begin_at_user_code(error: BaseException) -> None:
    """Leave out of a traceback the frames that lead to the processor: its author knows none of them."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith("microbatch."):
        frame = frame.tb_next
    if frame is not None:
        error.__traceback__ = frame
