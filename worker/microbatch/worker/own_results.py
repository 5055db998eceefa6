"""Own results: what a processor with one result per event has returned, sorted by event.

A batcher with ``per_event`` has its processor return one result for each event. Each event then has its own
outcome: done with a result, failed with an error, or expired before it was processed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from microbatch.broker.app.config import Config
from microbatch.broker.errors import DecodeError, EncodeError
from microbatch.broker.policy.bounds import MOST_RESULT_BYTES
from microbatch.broker.wire.batch import BatchInfo, PartialFailure, Reject
from microbatch.broker.wire.ending import Ending, end_of_the_expired
from microbatch.broker.wire.in_flight import ClaimedBatch, Part, part_of
from microbatch.broker.wire.outcome import Outcome
from microbatch.broker.wire.reply import EXPIRED, Replies, Reply, addresses_of, expires_at_ms
from microbatch.worker.result_body import result_body

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
        live, expired, unreadable = sort_by_expiry(batch)
        bodies, errors = self._results(live, [events[position] for position in live], info)
        errors.update(unreadable)
        replies = Replies()
        replies.add([batch.events[position] for position in expired], EXPIRED)
        for position, body in bodies.items():
            replies.add([batch.events[position]], Reply(result=body))
        ending = Ending(self._entry(batch, bodies), replies, len(expired))
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
                bodies[live[index]] = result_body(result, self._most_bytes)
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

    def _entry(self, batch: ClaimedBatch, bodies: Mapping[int, bytes]) -> list[Any]:
        """The entry for the result handler: the results of the events that nobody waits for, as one list."""
        if not self._is_handled:
            return []
        recorded = [body for position, body in bodies.items() if not addresses_of(batch.events[position])]
        if not recorded:
            return []
        body = b"[%b]" % b",".join(recorded)
        return Outcome(batch.id, batch.header, batch.run.attempt, batch.recorded_at_ms, result=body).encode()


def sort_by_expiry(batch: ClaimedBatch) -> tuple[list[int], list[int], dict[int, BaseException | str]]:
    """The positions of the events that are processed and of those that have expired, and unreadable ones.

    Events with a malformed time of expiry are dead at once. Only other programs write them.
    """
    live: list[int] = []
    expired: list[int] = []
    unreadable: dict[int, BaseException | str] = {}
    for position, raw in enumerate(batch.events):
        try:
            at_ms = expires_at_ms(raw)
        except DecodeError as error:
            unreadable[position] = Reject(error)
        else:
            is_live = at_ms is None or at_ms > batch.header.cut_at_ms
            (live if is_live else expired).append(position)
    return live, expired, unreadable


def part_alive(batch: ClaimedBatch, now_ms: int, *, due_ms: int) -> tuple[Part, Ending] | None:
    """The part of a batch that was processed, and how the other events end. None if all of it was.

    Events that have expired do not die of the processor's error. A replay would process them.
    """
    expired = sort_by_expiry(batch)[1]
    if not 0 < len(expired) < batch.header.size:
        return None
    live = sorted(set(range(batch.header.size)).difference(expired))
    run = batch.run.failed(now_ms, charged=True, done=batch.run.done, mode=batch.run.mode)
    part = part_of(batch, live, run, due_ms)
    return part, end_of_the_expired([batch.events[position] for position in expired])


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
