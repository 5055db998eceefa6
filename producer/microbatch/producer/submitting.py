"""Submitting: recording an event and getting its own result, as a future."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from microbatch.broker.app.config import Config
from microbatch.broker.errors import ConfigError, EncodeError
from microbatch.broker.wire import codec
from microbatch.producer.event_checks import EventChecks, refuse_one_event, stopped
from microbatch.producer.submission import NEEDS_PER_EVENT, check_seconds
from microbatch.producer.submitter import Submitter

_WINDOW = 1_000
"""How many events `map` has on their way at a time."""


class Submits:
    """The part of a batcher that submits events."""

    config: Config
    _checks: EventChecks
    _submitter: Submitter | None
    _stopped: bool

    def submit(
        self,
        event: object,
        *,
        id: str | None = None,  # noqa: A002 - what it is
        timeout: float | None = None,
        expires: float | None = None,
    ) -> Future[Any]:
        """Record one event, and return the future of its own result.

        Only with ``Config(per_event=True)``. The event is sent soon, together with what other threads submit.
        The future's result is what the processor returned for this event, as a plain JSON value. Otherwise it
        raises

        - EventFailed: the event is dead, with the processor's error;
        - EventExpired: it expired before it was processed;
        - TimeoutError: no reply came within ``timeout``; the event is still processed, unless it expires;
        - ReplyLost: the reply can't come any more, and whether the event is processed is unknown;
        - AlreadyRecorded: an event with this id was recorded before, and this one was not recorded;
        - Unavailable, Refused, BatcherFull: the event was not recorded;
        - Closed: the batcher was closed before the reply came.

        If it is in doubt whether the event was recorded, the future stays pending: the reply settles that. If
        the event was not recorded, or the server has lost it in a failover, no reply comes. So give a
        ``timeout`` if somebody waits. Cancelling the future makes this process forget the event, which is
        processed all the same.

        Callbacks of the future run on up to eight threads of the batcher, and hold up no other future.

        Args:
            event: anything that pydantic can encode as JSON.
            id: of the calls with one id within ``dedupe_window`` seconds, one records its event.
            timeout: how long to wait for the reply, in seconds; without limit by default.
            expires: in how many seconds the event expires. It is left out of its batch if the batch is cut
                later; never by default.

        Raises:
            ConfigError: the config has not ``per_event``; or there is an id and no ``dedupe_window``.
            EncodeError: the event can't be encoded or is too large, or an argument is not valid.
            Stopped: `stop` or `close` was called before.
            TooManyPending: ``max_pending`` replies are waited for, and were for ``block_when_full`` seconds.
        """
        if (submitter := self._submitter) is None:
            raise ConfigError(NEEDS_PER_EVENT)
        if self._stopped:
            raise stopped(self.config.name)
        check_seconds("timeout", timeout)
        check_seconds("expires", expires)
        if id is not None:
            self._checks.check_id(id)
        body = codec.encode(event)
        self._checks.check_sizes([body])
        return submitter.submit(body, id or "", timeout=timeout, expires=expires)

    def submit_many(
        self, events: Iterable[object], *, timeout: float | None = None, expires: float | None = None
    ) -> list[Future[Any]]:
        """`submit` each of these events. Returns their futures in the same order. Raises as `submit` does.

        An event that can't be submitted ends it. The events before it were submitted.
        """
        self._check_many("submit_many", events)
        return [self.submit(event, timeout=timeout, expires=expires) for event in events]

    def map(
        self, events: Iterable[object], *, timeout: float | None = None, expires: float | None = None
    ) -> Iterator[Any]:
        """`submit` these events, some at a time, and yield their results in the same order.

        Raises as `submit` does, and the first error of an event. That ends it, and events that were submitted
        are processed all the same.
        """
        self._check_many("map", events)
        return self._results(events, timeout, expires)

    def _results(
        self, events: Iterable[object], timeout: float | None, expires: float | None
    ) -> Iterator[Any]:
        window = min(_WINDOW, self.config.max_pending)
        futures: deque[Future[Any]] = deque()
        for event in events:
            if len(futures) == window:
                yield futures.popleft().result()
            futures.append(self.submit(event, timeout=timeout, expires=expires))
        while futures:
            yield futures.popleft().result()

    def _check_many(self, call: str, events: object) -> None:
        if self._submitter is None:
            raise ConfigError(NEEDS_PER_EVENT)
        try:
            refuse_one_event(events)
        except EncodeError:
            raise EncodeError(
                f"{call} takes many events, and was given one {type(events).__name__}: "
                "put it in a list, or call submit"
            ) from None
