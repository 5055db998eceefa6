"""The format of an event in the events list.

An event is one string. Version 1 has a version digit, the time of recording (11 hex digits, unix ms) and the
JSON. Version 2 is for events that carry fields: between the time and the JSON it has the length of the fields
in bytes (3 hex digits) and the fields. An event without fields is of version 1, and pays nothing for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.fields import Fields, Tag, decode_fields, encode_fields

_PLAIN = b"1"
_WITH_FIELDS = b"2"
_STAMP_DIGITS = 11
_PREFIX_LENGTH = 1 + _STAMP_DIGITS
_STAMP = re.compile(rb"[0-9a-f]{11}")
_LAST_STAMP = 0xFFFFFFFFFFF
_HEAD_WITH_FIELDS = re.compile(rb"2[0-9a-f]{11}([0-9a-f]{3})")


@dataclass(frozen=True, slots=True)
class Event:
    """An event with all that it carries."""

    body: bytes
    """Its JSON."""
    recorded_at_ms: int
    """When it was recorded, by its producer's clock (unix ms)."""
    fields: Fields = ()

    def encode(self) -> bytes:
        """The event as it is stored in the list.

        Raises:
            EncodeError: a field is unknown, too long, or repeated and not repeatable; or all together are too
                long.
        """
        prefix = event_prefix(self.recorded_at_ms)
        if not self.fields:
            return prefix + self.body
        fields = encode_fields(self.fields)
        return b"%b%b%03x%b%b" % (_WITH_FIELDS, prefix[len(_PLAIN) :], len(fields), fields, self.body)

    @classmethod
    def decode(cls, raw: bytes) -> Event:
        """Decode an event of either version. Unknown fields that may be ignored are left out.

        Raises:
            DecodeError: as for `event_body` and `event_recorded_at_ms`.
        """
        return cls(event_body(raw), event_recorded_at_ms(raw), event_fields(raw))

    def values(self, tag: Tag) -> list[bytes]:
        """The values of the fields with this tag, in order."""
        return [value for found, value in self.fields if found == tag]


def encode_event(body: bytes, recorded_at_ms: int) -> bytes:
    """An event without fields as it is stored in the list. ``body`` is its JSON."""
    return event_prefix(recorded_at_ms) + body


def event_prefix(recorded_at_ms: int) -> bytes:
    """The part before the JSON of an event without fields that is recorded at this time (unix ms)."""
    return b"1%011x" % min(max(recorded_at_ms, 0), _LAST_STAMP)


def event_body(raw: bytes) -> bytes:
    """The JSON of an event of either version.

    Raises:
        DecodeError: it was written by another program, or is of an unknown version; or it has malformed
            fields, or an unknown field that must be understood.
    """
    if raw[:1] != _PLAIN or len(raw) <= _PREFIX_LENGTH:
        return _fields_and_body(raw)[1]
    return raw[_PREFIX_LENGTH:]


def event_fields(raw: bytes) -> Fields:
    """The fields of an event of either version that this version knows. Raises as `event_body` does."""
    return () if raw[:1] == _PLAIN else _fields_and_body(raw)[0]


def event_recorded_at_ms(raw: bytes) -> int:
    """When the event was recorded, by its producer's clock (unix ms). All versions have it in one place.

    Raises:
        DecodeError: there is no time at this place.
    """
    if (stamp := _STAMP.fullmatch(raw, 1, _PREFIX_LENGTH)) is None:
        raise DecodeError("an event carries no time of recording")
    return int(stamp[0], 16)


def _fields_and_body(raw: bytes) -> tuple[Fields, bytes]:
    """The fields and the JSON of an event of version 2. Raises DecodeError if it is not one."""
    if raw[:1] != _WITH_FIELDS:
        raise DecodeError("not an event of version 1 or 2")
    if (head := _HEAD_WITH_FIELDS.match(raw)) is None:
        raise DecodeError("the event has a malformed head")
    start = head.end()
    end = start + int(head[1], 16)
    if end >= len(raw):
        raise DecodeError("the event ends before its JSON")
    return decode_fields(raw[start:end]), raw[end:]
