"""Reads JSON objects of a known version, and the times in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from microbatch.broker.errors import DecodeError

VERSION = 1
LAST_MS = 253_402_300_799_999  # the end of the year 9999, which is the last that Python's datetime has


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
    """The same time. Raises DecodeError if it is before 1970 or after the year 9999."""
    if not 0 <= unix_ms <= LAST_MS:
        raise DecodeError("a time is before 1970 or after the year 9999")
    return unix_ms
