"""The breaker: tells an outage, which fails every batch, from a bad event, which fails its own batch.

It looks at the row of failures since a run of the batcher last succeeded. Whatever does not depend on what is
in a batch (a database that is away, a bug) soon fails batch after batch, and no run succeeds. The breaker is
open from then until the next success. It is Michael Nygard's circuit breaker ("Release It!"), kept at the
server for all workers together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from microbatch.broker import scripts
from microbatch.broker.keys import Keys
from microbatch.broker.server import Server
from microbatch.broker.stats import is_number
from microbatch.broker.wire import printable

OPENS_AT_BATCHES = 5
"""The breaker opens when so many batches, parts of one counted once, failed and none succeeded."""
OPENS_AFTER_MS = 10_000
"""Or when nothing but failures came for so long."""
_KEPT_MS = 600_000  # as in the script


@dataclass(frozen=True, slots=True)
class Health:
    """The row of failures since a run last succeeded."""

    done: int = 0
    """How many events of the batcher were ever processed; a success makes it grow."""
    batches: int = 0
    """How many of the batches that were cut failed in this row, up to 1,000."""
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
        """From what the server holds. A row that a success has ended is none."""
        current = done or b"0"
        counted = _number(current)
        if row.get(b"done") != current:
            return cls(counted)
        since, opened = (_number(row.get(name, b"0")) for name in (b"since", b"opened"))
        return cls(counted, int(batches), since, opened, printable(row.get(b"kind", b"")))

    def __str__(self) -> str:
        batches = "1 batch" if self.batches == 1 else f"{self.batches:,} batches in a row"
        return f"{batches} failed with {self.kind}, and none succeeded"


class Breaker:
    """The breaker of one batcher."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    def note_failure(self, root: str, kind: str, *, now_ms: int, probe: bool = False) -> Health:
        """Note that a run failed, and return the row that it is in.

        Args:
            root: the batch that was cut, of which the failed one is a part, or which it is.
            kind: the error's name. It is shown to people, and so never has what is in an event.
            now_ms: the server's time.
            probe: whether the run was of a single event, to tell an outage from a bad event: then it is one.
        """
        keys = self._keys
        names = (keys.failing, keys.breaker, keys.stats, keys.wake)
        args = (root, kind, now_ms, int(probe), OPENS_AT_BATCHES, OPENS_AFTER_MS)
        done, batches, since_ms, opened_ms, shown = self._server.run(scripts.FAIL, names, args)
        return Health(_number(done), batches, since_ms, opened_ms, printable(shown))

    def keep(self) -> None:
        """Keep the present row for ten minutes more, though no failure comes."""
        self._server.many(*(("PEXPIRE", key, _KEPT_MS) for key in (self._keys.failing, self._keys.breaker)))

    def health(self) -> Health:
        """The present row."""
        keys = self._keys
        row, batches, done = self._server.many(
            ("HGETALL", keys.breaker), ("ZCARD", keys.failing), ("HGET", keys.stats, "done_events"),
            transaction=True,
        )  # fmt: skip
        return Health.of(row, batches, done)


def _number(value: bytes) -> int:
    return int(value) if is_number(value) else 0
