"""A batch in flight, as scheduler, worker and reconciler each see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire import identity
from microbatch.broker.wire.event import event_recorded_at_ms
from microbatch.broker.wire.header import Header
from microbatch.broker.wire.run_record import Mode, RunRecord


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch about to be cut."""

    id: str
    header: Header


@dataclass(frozen=True, slots=True)
class Made:
    """The result of a cut."""

    sizes: list[int]
    """How many events each batch has. Planned batches that were not made come last, and are left out."""
    bytes: int = 0
    """The bytes of all these events on the server, with some overhead if no event was copied."""
    left: int = 0
    """How many events waited after the cut, if they were counted: they were recorded after the look."""

    @property
    def events(self) -> int:
        """How many events were cut."""
        return sum(self.sizes)

    def of(self, planned: Sequence[NewBatch]) -> list[NewBatch]:
        """The planned batches that were made, with the sizes that they got."""
        return [
            batch if batch.header.size == size else replace(batch, header=replace(batch.header, size=size))
            for batch, size in zip(planned, self.sizes, strict=False)
        ]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a batch, which becomes a batch of its own."""

    id: str
    header: Header
    run: RunRecord
    due_ms: int
    positions: Sequence[int]
    """Where its events are in the batch, from 0, in ascending order."""

    def runs(self) -> list[tuple[int, int]]:
        """The positions as runs of consecutive ones, each with its first and its last position."""
        if isinstance(self.positions, range) and self.positions.step == 1 and self.positions:
            return [(self.positions[0], self.positions[-1])]
        found: list[tuple[int, int]] = []
        for position in self.positions:
            if found and found[-1][1] == position - 1:
                found[-1] = (found[-1][0], position)
            else:
                found.append((position, position))
        return found


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """A batch that its owner will run, with its events as they are stored."""

    id: str
    header: Header
    run: RunRecord
    events: list[bytes]

    @classmethod
    def decode(cls, batch_id: str, values: Sequence[bytes]) -> ClaimedBatch:
        """Raises DecodeError if these are not a batch of this version."""
        header = replace(Header.decode(values[0]), size=len(values) - 2)
        return cls(batch_id, header, RunRecord.decode(values[1]), list(values[2:]))

    @property
    def recorded_at_ms(self) -> int:
        """When its oldest event was recorded."""
        return recorded_at_ms(self.header, self.events[0])


Next = ClaimedBatch | bytes | None
"""What a worker does next: run a batch, look after the job of this id, or wait."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim to one run of a batch."""

    owner: str
    """Who will run it; new for each run."""
    now_ms: int
    due_ms: int
    """When it expires, unless it is renewed."""


@dataclass(frozen=True, slots=True)
class DueBatch:
    """A batch in flight that the scheduler must look at."""

    id: str
    header: Header
    run: RunRecord
    then: RunRecord
    """The run record that it has when it is enqueued again."""

    @classmethod
    def decode(cls, raw_id: bytes, header: bytes, record: bytes, length: int) -> DueBatch:
        """Raises DecodeError if this is not a batch of this version."""
        batch_id = raw_id.decode("latin-1")
        if not identity.is_batch_id(batch_id) or length < 3:
            raise DecodeError("it has no batch's id, or no events")
        run = RunRecord.decode(record)
        return cls(batch_id, replace(Header.decode(header), size=length - 2), run, run.free())


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry of the ledger whose key does not hold a batch, or does not exist."""

    id: bytes
    """The entry's id, which may not be that of a batch."""
    record: bytes
    """The value in the run record's place."""


def recorded_at_ms(header: Header, first_event: bytes) -> int:
    """When a batch's first event was recorded, or, if that can't be read, when the batch was cut."""
    try:
        return event_recorded_at_ms(first_event)
    except DecodeError:
        return header.cut_at_ms


def new_batch(header: Header) -> NewBatch:
    """A batch about to be cut, with a new id."""
    return NewBatch(identity.new_id(), header)


def part_of(batch: ClaimedBatch | DueBatch, positions: Sequence[int], run: RunRecord, due_ms: int) -> Part:
    """A part of a batch, with the run record that it begins with."""
    header = replace(batch.header, size=len(positions), parent=batch.id)
    return Part(identity.new_part_id(batch.id), header, run.free(), due_ms, positions)


def halves_of(batch: ClaimedBatch | DueBatch, run: RunRecord, due_ms: int) -> list[Part]:
    """The two halves of a batch of at least two events, to isolate the events that fail."""
    size, isolating = batch.header.size, replace(run, mode=Mode.ISOLATING)
    halves = range(size // 2), range(size // 2, size)
    return [part_of(batch, positions, isolating, due_ms) for positions in halves]


def probe_of(batch: ClaimedBatch | DueBatch, run: RunRecord, due_ms: int, rest_due_ms: int) -> list[Part]:
    """One event of a batch of at least two, to be run alone at ``due_ms``, and the rest, at ``rest_due_ms``.

    The chosen event changes with each run, so that a bad one is not chosen every time.
    """
    size = batch.header.size
    chosen = run.runs % size
    rest = [position for position in range(size) if position != chosen]
    probe = replace(run, mode=Mode.PROBE)
    return [part_of(batch, [chosen], probe, due_ms), part_of(batch, rest, run, rest_due_ms)]
