"""The counters of one batcher: what has happened since its first event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.text import is_number


@dataclass(frozen=True, slots=True)
class Counters:
    """What has happened since the batcher's first event."""

    cut_batches: int = 0
    cut_events: int = 0
    done_batches: int = 0
    done_events: int = 0
    dead_batches: int = 0
    dead_events: int = 0
    """All events that ever died. Those that were replayed, purged or revived are no longer dead."""
    divided_batches: int = 0
    replayed_batches: int = 0
    replayed_events: int = 0
    purged_batches: int = 0
    purged_events: int = 0
    revived_batches: int = 0
    revived_events: int = 0
    expired_events: int = 0

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> Counters:
        """The counters in a stats hash. Raises DecodeError if one of them is not a number."""
        return cls(**{field.name: number_in(fields, field.name) for field in dataclass_fields(cls)})

    @property
    def events_gone(self) -> int:
        """Events that were cut and are neither in flight nor dead any more."""
        return self.done_events + self.replayed_events + self.purged_events + self.expired_events

    @property
    def dead_events_now(self) -> int:
        """Events that are dead now."""
        return self.dead_events - self.replayed_events - self.purged_events - self.revived_events

    @property
    def dead_batches_now(self) -> int:
        """Batches that are dead now."""
        return self.dead_batches - self.replayed_batches - self.purged_batches - self.revived_batches

    @property
    def batches_gone(self) -> int:
        """Batches that were cut and are no longer in flight or dead."""
        return self.done_batches + self.divided_batches + self.replayed_batches + self.purged_batches


def number_in(fields: Mapping[bytes, bytes], name: str, otherwise: int = 0) -> int:
    """The counter of this name, or ``otherwise``. Raises DecodeError if it is not a number."""
    value = fields.get(name.encode())
    if value is None:
        return otherwise
    if not is_number(value):
        raise DecodeError(f"the counter {name} is not a number; the active scheduler quarantines it")
    return int(value)
