"""The events of all benchmarks: 150 bytes of JSON each, the same for every system."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

EVENT_BYTES = 150
_FIRST = 100_000
_KINDS = 1_000


def _event(number: int) -> dict[str, Any]:
    event = {"number": number, "user": f"user-{number % 97:02}", "action": "view", "ok": True, "path": ""}
    event["path"] = "/".ljust(EVENT_BYTES - len(encode(event)), "x")
    return event


def encode(event: object) -> bytes:
    """An event as JSON, as our own encoder writes it."""
    return json.dumps(event, separators=(",", ":")).encode()


KINDS = [_event(number) for number in range(_FIRST, _FIRST + _KINDS)]
"""The different events. A benchmark records them again and again, so that making events costs it nothing."""


def some(count: int, after: int = 0) -> Iterator[dict[str, Any]]:
    """``count`` events, starting ``after`` others."""
    first = after % _KINDS
    return itertools.islice(itertools.cycle(KINDS), first, first + count)


def total(count: int, after: int = 0) -> int:
    """The sum of the numbers of these events."""
    return _total(after + count) - _total(after)


def _total(count: int) -> int:
    rounds, over = divmod(count, _KINDS)
    return rounds * sum(range(_FIRST, _FIRST + _KINDS)) + sum(range(_FIRST, _FIRST + over))
