"""Own results: what a processor with one result per event has returned, sorted by event.

A batcher with ``per_event`` has its processor return one result for each event. Each event then has its own
outcome: done with a result, failed with an error, or expired before it was processed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from microbatch.broker.app.config import Config
from microbatch.broker.errors import EncodeError
from microbatch.broker.policy.bounds import MOST_RESULT_BYTES
from microbatch.broker.wire import codec
from microbatch.broker.wire.batch import BatchInfo, PartialFailure
from microbatch.broker.wire.ending import Ending
from microbatch.broker.wire.in_flight import ClaimedBatch
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.reply import EXPIRED, Replies, Reply, addresses_of, expires_at_ms

_SHAPE = (
    "with per_event, the processor returns one result per event: a list as long as the batch, or a dict from "
    "position to result"
)


class NoResult(LookupError):
    """The processor returned no result for an event."""


class OwnResults:
    """Runs the processor of a batcher with ``per_event``, and sorts what it returns.

    Args:
        config: the batcher's settings.
        process: calls the processor with the events and the batch.
    """

    def __init__(self, config: Config, process: Callable[[list[Any], BatchInfo], Any]) -> None:
        self._process = process
        self._most_bytes = config.max_result_bytes
        self._is_handled = config.result_handler is not None and config.results == "keep"

    def run(
        self, batch: ClaimedBatch, events: Sequence[Any], info: BatchInfo
    ) -> tuple[Ending, PartialFailure | None]:
        """Process the events that have not expired. Returns how those end that are done, and the failed ones.

        Whether an event has expired is decided by when its batch was cut, so it is the same in each run.

        Raises:
            TypeError, ValueError: the processor returned something else than one result per event.
            EncodeError: all results together are too large for one batch.
            Exception: what the processor raised for the whole batch.
        """
        cut_at_ms = batch.header.cut_at_ms
        expiries = map(expires_at_ms, batch.events)
        live = [p for p, at_ms in enumerate(expiries) if at_ms is None or at_ms > cut_at_ms]
        bodies, errors = self._results(live, [events[position] for position in live], info)
        ending = Ending(
            self._entry(batch, bodies), self._replies(batch, live, bodies), len(events) - len(live)
        )
        return ending, PartialFailure(errors) if errors else None

    def _results(
        self, live: Sequence[int], events: list[Any], info: BatchInfo
    ) -> tuple[dict[int, bytes], dict[int, BaseException | str]]:
        """The JSON of the results, and the errors, by the events' positions in the batch."""
        bodies: dict[int, bytes] = {}
        errors: dict[int, BaseException | str] = {}
        for index, result in self._each(events, info) if events else ():
            if isinstance(result, BaseException):
                errors[live[index]] = result
                continue
            try:
                bodies[live[index]] = self._encoded(result)
            except EncodeError as error:
                errors[live[index]] = error
        if sum(map(len, bodies.values())) > MOST_RESULT_BYTES:
            raise EncodeError(f"the results of the batch have more than {MOST_RESULT_BYTES:,} bytes")
        return bodies, errors

    def _each(self, events: list[Any], info: BatchInfo) -> Iterator[tuple[int, Any]]:
        """Each event's index and its result, or the error in the place of its result."""
        count = len(events)
        failed: Mapping[int, BaseException | str] = {}
        try:
            returned = self._process(events, info)
        except PartialFailure as failure:
            failed, returned = failure.errors, {} if failure.result is None else failure.result
        found = _by_index(returned, count)
        if wrong := sorted(index for index in (*failed, *found) if not 0 <= index < count):
            raise ValueError(f"the processor names positions {wrong} of {count} events")
        for index in range(count):
            error = failed.get(index)
            if isinstance(error, str):
                error = RuntimeError(error)
            missing = NoResult("the processor returned no result for this event")
            yield index, error if error is not None else found.get(index, missing)

    def _encoded(self, result: object) -> bytes:
        body = codec.encode(result, "result")
        if len(body) > self._most_bytes:
            size, most = len(body), self._most_bytes
            raise EncodeError(f"the result has {size:,} bytes; the most is {most:,} (max_result_bytes)")
        return body

    def _entry(self, batch: ClaimedBatch, bodies: Mapping[int, bytes]) -> list[Any]:
        """The entry for the result handler: the results of the events that nobody waits for, as one list."""
        if not self._is_handled:
            return []
        recorded = [body for position, body in bodies.items() if not addresses_of(batch.events[position])]
        if not recorded:
            return []
        body = b"[%b]" % b",".join(recorded)
        return Outcome(batch.id, batch.header, batch.run.attempt, batch.recorded_at_ms, result=body).encode()

    def _replies(self, batch: ClaimedBatch, live: Sequence[int], bodies: Mapping[int, bytes]) -> Replies:
        replies = Replies()
        for position, body in bodies.items():
            replies.add(batch.events[position], Reply(result=body))
        if len(live) < len(batch.events):
            for position in set(range(len(batch.events))).difference(live):
                replies.add(batch.events[position], EXPIRED)
        return replies


def _by_index(returned: object, count: int) -> Mapping[int, Any]:
    """The results by the events' indices. Raises TypeError or ValueError if they are of another shape."""
    if isinstance(returned, dict):
        if all(isinstance(index, int) and not isinstance(index, bool) for index in returned):
            return returned
        raise TypeError(f"{_SHAPE}, not a dict with other keys")
    if not isinstance(returned, (list, tuple)):
        raise TypeError(f"{_SHAPE}, not {type(returned).__name__}")
    if len(returned) != count:
        raise ValueError(f"{_SHAPE}; it returned {len(returned)} results for {count} events")
    return dict(enumerate(returned))
