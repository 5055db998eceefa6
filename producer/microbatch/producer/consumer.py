"""The consumer: reads outcomes from the stream and calls the handlers, until nothing more is to come."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Sequence

from microbatch.broker import wire
from microbatch.broker.batch import BatchFailure, BatchInfo
from microbatch.broker.broker import Broker
from microbatch.broker.codec import Decoder
from microbatch.broker.errors import DecodeError, InDoubt, ServerError, Unavailable
from microbatch.broker.functions import UserFunction
from microbatch.broker.patience import Patience, insist
from microbatch.broker.results import Entry, Outcome, Results
from microbatch.broker.wire import Failure
from microbatch.producer.finish import Finish
from microbatch.producer.keeper import Keeper

log = logging.getLogger(__name__)

_COUNT = 10
_ACKNOWLEDGE_SECONDS = 0.1
"""For how long a result may be handled and not be acknowledged yet, while others are handled."""
_LONGEST_WAIT_SECONDS = 5.0
_FORGET_AFTER = 10  # times claim_after: then a consumer that has nothing in hand is gone for good


class _NotOursError(DecodeError):
    """An entry on the stream that no worker of ours has added."""


class Consumer:
    """One member of the group that handles a batcher's results.

    Raises:
        ConfigError: a handler can't be used.
    """

    def __init__(self, broker: Broker) -> None:
        config = broker.config
        self._broker = broker
        self._name = config.name
        # Not "or": an object with run() may well be empty, such as a list of what it was given.
        on_result, on_failure = config.result_handler, config.failure_handler
        self._on_result = UserFunction("result_handler", _ignore if on_result is None else on_result)
        self._on_failure = UserFunction("failure_handler", _log_failure if on_failure is None else on_failure)
        self._result_decoder = self._on_result.decoder()
        self._plain = Decoder(object)
        self._claim_after = config.claim_after
        self._claim_at = self._forget_at = 0.0
        self._finish: Finish | None = None
        self._quitting = threading.Event()
        self._results: Results | None = None
        self._joined = False
        self._pid = 0
        self._patience = Patience(self._name)

    @property
    def stopping(self) -> bool:
        """Whether `stop_at` was called."""
        return self._finish is not None

    def stop_at(self, position: int, *, flush: bool = True) -> None:
        """Have `run` return when the first ``position`` events ever recorded are dealt with.

        ``flush``: whether those that wait are to be cut before their tick.
        """
        self._finish = Finish(self._broker, position, flush=flush)
        self._interrupt_wait()

    def quit(self) -> None:
        """Have `run` return as soon as what is in hand is handled."""
        self._quitting.set()
        self._interrupt_wait()

    def _interrupt_wait(self) -> None:
        if self._results is not None and self._pid == os.getpid():
            # On a thread of its own: this may be a signal handler, called in the midst of the wait.
            threading.Thread(target=self._interrupt, args=(self._results,), daemon=True).start()

    def run(self, timeout: float | None) -> bool:
        """Handle outcomes until stopped and all is handled (True), or for ``timeout`` seconds (False)."""
        deadline = None if timeout is None else time.monotonic() + timeout
        results = self._member()
        unhandled = True  # of an earlier call, or delivered in a reply that was lost
        with Keeper(results, self._claim_after / 3) as keeper:
            while not self._quitting.is_set() and (deadline is None or time.monotonic() < deadline):
                try:
                    self._join(results)
                    entries = results.read_own(count=_COUNT) if unhandled else self._next(results, deadline)
                except (Unavailable, InDoubt) as error:
                    unhandled = True
                    self._quitting.wait(_within(deadline, self._patience.lost(error)))
                    continue
                self._patience.found()
                if entries is None:
                    return True
                unhandled = unhandled and bool(entries)
                self._handle(entries, results, keeper)
        return False

    def leave(self) -> None:
        """Leave the group, if this process has joined it."""
        if self._results is not None and self._joined and self._pid == os.getpid():
            self._results.leave()
            self._results = None

    def _member(self) -> Results:
        """This process's membership: its name is its own, so a fork joins anew."""
        if self._results is None or self._pid != os.getpid():
            self._results, self._pid = self._broker.results(), os.getpid()
            self._joined = False
        return self._results

    def _join(self, results: Results) -> None:
        if not self._joined:
            results.prepare()
            self._joined = True

    def _next(self, results: Results, deadline: float | None) -> list[Entry] | None:
        """What to handle next; it may be nothing yet. None if there is nothing more to come."""
        now = time.monotonic()
        if now >= self._claim_at:
            self._claim_at = now + self._claim_after / 6
            if taken := results.take_over(idle_ms=int(self._claim_after * 1000 * 5 / 6), count=_COUNT):
                self._claim_at = now  # there may be more
                return taken
            self._forget_the_silent(results, now)
        wait_until = min(
            self._claim_at, now + _LONGEST_WAIT_SECONDS, deadline if deadline is not None else now + 3600
        )
        wait_ms = int((wait_until - now) * 1000)
        finish = self._finish
        if finish is None:
            return results.wait(count=_COUNT, wait_ms=wait_ms, unless=self._is_told)
        entries = results.read(count=_COUNT)
        if not entries:
            if finish.reached(results):
                return None
            finish.wait(wait_ms)
        return entries

    def _forget_the_silent(self, results: Results, now: float) -> None:
        """Those who died without leaving would else stay in the group for ever."""
        if now >= self._forget_at:
            self._forget_at = now + self._claim_after
            if gone := results.forget_silent(idle_ms=int(self._claim_after * 1000 * _FORGET_AFTER)):
                log.info("%s: %d consumers are gone, and forgotten", self._name, gone)

    def _is_told(self) -> bool:
        return self.stopping or self._quitting.is_set()

    def _handle(self, entries: Sequence[Entry], results: Results, keeper: Keeper) -> None:
        """Call the handler for each entry; those it has returned from are acknowledged together."""
        keeper.keep([entry.id for entry in entries])
        handled: list[str] = []
        acknowledge_at = time.monotonic() + _ACKNOWLEDGE_SECONDS
        try:
            for entry in entries:
                self._call_handler(entry, results)
                handled.append(entry.id)
                if time.monotonic() >= acknowledge_at:
                    self._acknowledge(handled, results)
                    acknowledge_at = time.monotonic() + _ACKNOWLEDGE_SECONDS
        finally:
            self._acknowledge(handled, results)
            keeper.keep([])

    def _acknowledge(self, handled: list[str], results: Results) -> None:
        if handled:
            insist(self._name, functools.partial(results.handled, tuple(handled)))
            handled.clear()

    def _call_handler(self, entry: Entry, results: Results) -> None:
        try:
            outcome = self._outcome(entry)
            result = self._result(outcome)
        except _NotOursError as error:
            if aside := insist(self._name, functools.partial(results.put_aside, entry)):
                log.error("%s: entry %s is put aside as %s: %s", self._name, entry.id, aside, error)  # noqa: TRY400
            else:
                log.warning("%s: entry %s has gone from the stream: %s", self._name, entry.id, error)
            return
        info = BatchInfo.of(
            self._name, outcome.batch_id, outcome.header, outcome.attempt, outcome.recorded_at_ms
        )
        if outcome.failure is not None:
            self._on_failure(self._failure(info, outcome.failure), info)
        else:
            self._on_result(result, info)

    def _outcome(self, entry: Entry) -> Outcome:
        try:
            outcome = Outcome.decode(entry.fields)
        except DecodeError as error:
            raise _NotOursError(str(error)) from None
        if not wire.is_batch_id(outcome.batch_id):
            raise _NotOursError("it names no batch's id")
        return outcome

    def _result(self, outcome: Outcome) -> object:
        """The result as its handler takes it.

        Raises DecodeError if it does not fit its handler, and _NotOursError if it is no result at all.
        """
        body = outcome.result or b"null"
        try:
            return None if outcome.failure is not None else self._result_decoder.one(body)
        except DecodeError:
            try:
                self._plain.one(body)
            except DecodeError as error:
                raise _NotOursError(str(error)) from None
            raise

    def _failure(self, info: BatchInfo, failure: Failure) -> BatchFailure:
        raws = insist(self._name, functools.partial(self._broker.dead.events, info.id))
        if not raws:
            log.warning("%s: batch %s: its events are no longer kept as dead", self._name, info.id)
        return BatchFailure(info, failure.error, failure.traceback, [self._plain_event(raw) for raw in raws])

    def _plain_event(self, raw: bytes) -> object:
        try:
            return self._plain.one(wire.event_body(raw), "event")
        except DecodeError:  # what the batch died of, perhaps: shown as it is
            return raw.decode("utf-8", "backslashreplace")

    def _interrupt(self, results: Results) -> None:
        try:
            results.interrupt()
        except ServerError as error:
            log.debug("%s: the wait ends by itself: %s", self._name, error)


def _within(deadline: float | None, seconds: float) -> float:
    """So many seconds, but not beyond the deadline."""
    return seconds if deadline is None else max(0.0, min(seconds, deadline - time.monotonic()))


def _ignore(result: object) -> None:
    """The result handler of those who gave none."""


def _log_failure(failure: BatchFailure) -> None:
    """The failure handler of those who gave none. An error may quote events: only its kind is logged.

    One without a traceback has none: it is a text of the processor's own.
    """
    batch, kind = failure.batch, f": {failure.error.partition(':')[0]}" if failure.traceback else ""
    log.error(
        "%s: batch %s is dead at attempt %d%s; `microbatch dead show %s %s` has the rest",
        batch.batcher, batch.id, batch.attempt, kind, batch.batcher, batch.id,
    )  # fmt: skip
