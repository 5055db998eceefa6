"""The handlers: call the user's code with an entry of the results stream, or quarantine the entry."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from microbatch.broker.app.functions import UserFunction
from microbatch.broker.broker import CommonBroker
from microbatch.broker.errors import DecodeError, InDoubt
from microbatch.broker.observe.observer import BatchRun
from microbatch.broker.process.failure_log import FailureLog
from microbatch.broker.state.results import Entry, Results
from microbatch.broker.transport.request import Steps
from microbatch.broker.transport.verb import S_co, Verbs
from microbatch.broker.wire import identity
from microbatch.broker.wire.batch import BatchFailure, BatchInfo
from microbatch.broker.wire.codec import Decoder
from microbatch.broker.wire.event import event_body
from microbatch.broker.wire.outcome import Outcome
from microbatch.producer.work import Call

log = logging.getLogger(__name__)


class Handlers(Verbs[S_co]):
    """A batcher's result handler and failure handler.

    For one thread at a time, because async handlers have an event loop.

    Args:
        broker: the batcher's.
        decoder: rebuilds the results; by default as the result handler's annotation says. With a decoder,
            results that do not fit become calls with a failure, whether the config has a failure handler or
            not.

    Raises:
        ConfigError: a handler can't be used.
    """

    def __init__(self, broker: CommonBroker[S_co], decoder: Decoder | None = None) -> None:
        super().__init__(broker.server)
        config = broker.config
        self._broker = broker
        self._name = config.name
        self._log = FailureLog(log)
        # "is None" and not "or": an object with run() may be falsy, such as a list of the results so far.
        on_result, on_failure = config.result_handler, config.failure_handler
        self._on_result = UserFunction("result_handler", _ignore if on_result is None else on_result)
        self._on_failure = UserFunction("failure_handler", self._tell if on_failure is None else on_failure)
        self._takes_misfits = on_failure is not None or decoder is not None
        self._result_decoder = self._on_result.decoder() if decoder is None else decoder
        self._plain = Decoder(object)

    def _tell(self, failure: BatchFailure) -> None:
        """The failure handler if the config has none. It logs only the error's kind: a text may quote events.

        An error without a traceback has no kind: it is a text that the processor made.
        """
        batch, kind = failure.batch, f": {failure.error.partition(':')[0]}" if failure.traceback else ""
        line = (
            f"{batch.batcher}: batch {batch.id} is dead at attempt {batch.attempt}{kind}; "
            f"`microbatch dead show {batch.batcher} {batch.id}` has the rest"
        )
        self._log.note(logging.ERROR, kind, line)

    def call_for(self, entry: Entry, results: Results[S_co]) -> Steps[Call | None]:
        """The call of a handler for one entry, to be made next.

        None if no handler can be called for the entry: then the entry is quarantined, and that is logged.
        Raises ServerError if the server can't be asked; this is then called again for the entry.
        """
        try:
            outcome = _outcome(entry)
        except DecodeError as error:
            yield from self._quarantine(entry, f"entry {entry.id}", error, results)
            return None
        batch = BatchInfo.of(
            self._name, outcome.batch_id, outcome.header, outcome.attempt, outcome.recorded_at_ms
        )
        tell = self._telling(outcome)
        if outcome.failure is not None:
            died = outcome.failure
            failure = BatchFailure(batch, died.error, died.traceback, (yield from self._events(batch)))
            return Call(self._on_failure, failure, batch, tell)
        result, why_not = _decoded(self._result_decoder, outcome)
        if why_not is None:
            return Call(self._on_result, result, batch, tell)
        plain, has_no_json = _decoded(self._plain, outcome)
        if self._takes_misfits and has_no_json is None:
            failure = BatchFailure(batch, f"DecodeError: {why_not}", "", [], result=plain)
            return Call(self._on_failure, failure, batch, tell)
        yield from self._quarantine(
            entry, f"the result of batch {batch.id} (entry {entry.id})", why_not, results
        )
        return None

    def _telling(self, outcome: Outcome) -> Callable[[], None] | None:
        if not self._broker.observer.sees_success:
            return None
        run = BatchRun(self._name, outcome.batch_id, outcome.header, outcome.attempt)
        return functools.partial(
            self._broker.observer.handled,
            run=run,
            recorded_at_ms=outcome.recorded_at_ms,
            is_dead=outcome.failure is not None,
        )

    def _quarantine(self, entry: Entry, what: str, error: DecodeError, results: Results[S_co]) -> Steps[None]:
        why = error.public
        try:
            place = yield from results.quarantine.asked(entry)
        except InDoubt:
            # If it was quarantined, the entry is not delivered again.
            log.warning("%s: %s may have been quarantined: %s", self._name, what, why)
            raise
        if place:
            log.error("%s: %s is quarantined as %s: %s", self._name, what, place, why)
        else:
            log.warning("%s: %s has gone from the stream: %s", self._name, what, why)

    def _events(self, batch: BatchInfo) -> Steps[list[Any]]:
        """A dead batch's events."""
        raws = yield from self._broker.dead.events.asked(batch.id)
        if not raws:
            log.warning("%s: batch %s: its events are no longer kept as dead", self._name, batch.id)
        return [self._plain_event(raw) for raw in raws]

    def _plain_event(self, raw: bytes) -> object:
        try:
            return self._plain.one(event_body(raw), "event")
        except DecodeError:  # perhaps what the batch died of, so the event is shown as it is
            return raw.decode("utf-8", "backslashreplace")


def _outcome(entry: Entry) -> Outcome:
    """An entry's outcome. Raises DecodeError if no worker of ours has added the entry."""
    outcome = Outcome.decode(entry.fields)
    if not identity.is_batch_id(outcome.batch_id):
        raise DecodeError("it names no batch's id")
    return outcome


def _decoded(decoder: Decoder, outcome: Outcome) -> tuple[object, DecodeError | None]:
    """An outcome's result, or why it can't be decoded."""
    try:
        return decoder.one(outcome.result or b"null"), None
    except DecodeError as error:
        return None, error


def _ignore(result: object) -> None:
    """The result handler if the config has none."""
