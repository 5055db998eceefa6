"""Reading what a peer adds to its stream, in place of our handler."""

from __future__ import annotations

import time
from typing import Any

import redis

from benchmarks.processes import PATIENCE_SECONDS
from benchmarks.tally import Tally


def read_sums(client: redis.Redis, stream: str, tally: Tally) -> None:
    """Add the counts and sums of a stream to the tally, and remove them. Raises TimeoutError."""
    last, deadline = b"0", time.monotonic() + PATIENCE_SECONDS
    while not tally.full:
        reply: Any = client.xread({stream: last}, count=100, block=1_000)
        for _, entries in reply:
            for last, fields in entries:  # noqa: B007 - where to go on
                tally.add(int(fields[b"count"]), int(fields[b"sum"]))
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all was processed within {PATIENCE_SECONDS:g} s")
    client.delete(stream)
