"""An event as it stands in the list.

It is one string: a version digit, when it was recorded (11 hex digits, unix ms), its JSON. The version digit
leaves room for events that carry more. Those that don't pay nothing for it.
"""

from __future__ import annotations

import re

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.versioned import VERSION

_EVENT_VERSION = b"1"
_STAMP_DIGITS = 11
_PREFIX_LENGTH = 1 + _STAMP_DIGITS
_STAMP = re.compile(rb"[0-9a-f]{11}")
_LAST_STAMP = 0xFFFFFFFFFFF


def encode_event(body: bytes, recorded_at_ms: int) -> bytes:
    """The event as it stands in the list. ``body`` is its JSON."""
    return event_prefix(recorded_at_ms) + body


def event_prefix(recorded_at_ms: int) -> bytes:
    """What stands before the JSON of every event that was recorded at this moment (unix ms)."""
    return b"1%011x" % min(max(recorded_at_ms, 0), _LAST_STAMP)


def event_body(raw: bytes) -> bytes:
    """The JSON of an event.

    Raises:
        DecodeError: it was written by something else, or by a version that this one does not know.
    """
    if raw[:1] != _EVENT_VERSION or len(raw) <= _PREFIX_LENGTH:
        raise DecodeError(f"not an event of version {VERSION}")
    return raw[_PREFIX_LENGTH:]


def event_recorded_at_ms(raw: bytes) -> int:
    """When the event was recorded, by its producer's clock (unix ms).

    Raises:
        DecodeError: as for `event_body`.
    """
    if (stamp := _STAMP.fullmatch(raw, 1, _PREFIX_LENGTH)) is None:
        raise DecodeError("an event carries no time of recording")
    return int(stamp[0], 16)
