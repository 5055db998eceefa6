"""The health of a batcher: its row of failures, which tells an outage from a bad event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from microbatch.broker.wire.text import number, printable


@dataclass(frozen=True, slots=True)
class Health:
    """The row of failures since a run last succeeded."""

    done: int = 0
    """How many events of the batcher were ever processed. Every success increases it."""
    batches: int = 0
    """How many batches failed in this row, up to 1,000. Parts count as the batch that was cut."""
    since_ms: int = 0
    opened_ms: int = 0
    """When the row opened the breaker; 0 if it has not."""
    kind: str = ""
    """The kind of the last error."""

    @property
    def is_open(self) -> bool:
        return self.opened_ms > 0

    @classmethod
    def of(cls, row: Mapping[bytes, bytes], batches: int, done: bytes | None) -> Health:
        """Build it from the replies of the server. A row that a success has ended is ignored."""
        current = done or b"0"
        counted = number(current)
        if row.get(b"done") != current:
            return cls(counted)
        since, opened = (number(row.get(name, b"0")) for name in (b"since", b"opened"))
        return cls(counted, int(batches), since, opened, printable(row.get(b"kind", b"")))

    def __str__(self) -> str:
        batches = "1 batch" if self.batches == 1 else f"{self.batches:,} batches in a row"
        return f"{batches} failed with {self.kind}, and none succeeded"
