"""JSON of a known version, and the moments in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from microbatch.broker.errors import DecodeError

VERSION = 1
LAST_MS = 253_402_300_799_999  # of the year 9999: no later moment can be told


def versioned(raw: bytes, what: str) -> Mapping[str, Any]:
    """The fields of a JSON object. Raises DecodeError when ``raw`` is not one of this version."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        raise DecodeError(f"a {what} is not JSON") from None
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise DecodeError(f"a {what} is not of version {VERSION}")
    return fields


def known_moment(unix_ms: int) -> int:
    """The same moment. Raises DecodeError if no calendar has it."""
    if not 0 <= unix_ms <= LAST_MS:
        raise DecodeError("a moment lies beyond all calendars")
    return unix_ms
