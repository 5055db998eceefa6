"""The fields of an event: what it carries besides its JSON, each as a tag, a length and a value.

The tag is one ASCII letter, the length is two hex digits. As with the chunks of a PNG file, the case of the
letter says what to do about a field that a reader does not know. The reader refuses an event with an unknown
lower-case letter. It ignores a field with an unknown upper-case letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from microbatch.broker.errors import DecodeError, EncodeError

MOST_BYTES = 0xFFF
"""The most bytes that all fields of an event have together, as they are written."""
MOST_VALUE_BYTES = 0xFF
_HEAD = re.compile(rb"([A-Za-z])([0-9a-f]{2})")


class Tag(StrEnum):
    """The fields that this version knows. Values are bytes; this module does not look into them."""

    __hash__ = (
        str.__hash__
    )  # every event's tags are looked up, and an enum's own hash takes ten times as long

    KEY = "k"
    """The event's key, in UTF-8."""
    REPLY_TO = "r"
    """Where a reply goes, in UTF-8. One field for each."""
    EXPIRES = "x"
    """When the event expires: unix ms in decimal digits."""
    ID = "i"
    """The event's id, in UTF-8."""
    ATTEMPT = "a"
    """The attempt of a replay, in decimal digits."""
    TRACEPARENT = "T"
    """``traceparent`` of W3C Trace Context."""
    BAGGAGE = "B"
    """``baggage`` of W3C Baggage. As with the header of that name, several are one list."""


Fields = tuple[tuple[str, bytes], ...]
"""Each field's tag (a `Tag`, or its letter) and value, in the order in which they are written."""

REPEATABLE = frozenset({Tag.REPLY_TO, Tag.BAGGAGE})
"""The fields that an event may have several times."""
_LETTERS: dict[str, bytes] = {tag: tag.encode() for tag in Tag}
_TAGS = {letter: Tag(tag) for tag, letter in _LETTERS.items()}


def encode_fields(fields: Fields) -> bytes:
    """The fields as they are written into an event.

    Raises:
        EncodeError: a tag is not a `Tag`, or is repeated and not repeatable; a value has more than 255 bytes,
            or all fields together have more than 4,095 bytes as they are written.
    """
    raw = b"".join([_encoded(tag, value) for tag, value in fields])
    if _is_one_repeated(fields):
        raise EncodeError("a field of the event is there twice")
    if len(raw) > MOST_BYTES:
        raise EncodeError(f"the fields of the event have {len(raw):,} bytes; the most is {MOST_BYTES:,}")
    return raw


def _encoded(tag: str, value: bytes) -> bytes:
    if (letter := _LETTERS.get(tag)) is None:
        public = "an event has no field of this name"
        raise EncodeError(f"{public}: {tag!r}", public)
    if len(value) > MOST_VALUE_BYTES:
        public = f"a field of the event has {len(value):,} bytes; the most is {MOST_VALUE_BYTES}"
        raise EncodeError(f"{public}: {letter.decode()!r}", public)
    return b"%b%02x%b" % (letter, len(value), value)


def decode_fields(raw: bytes) -> Fields:
    """The fields that this version knows. Unknown fields that a reader may ignore are left out.

    Raises:
        DecodeError: the fields are malformed, or an unknown one must be understood.
    """
    found: list[tuple[str, bytes]] = []
    at = 0
    while at < len(raw):
        if (head := _HEAD.match(raw, at)) is None:
            raise DecodeError("a field of the event is malformed")
        letter, start = head[1], head.end()
        at = start + int(head[2], 16)
        if at > len(raw):
            raise DecodeError("a field of the event is cut short")
        if (tag := _TAGS.get(letter)) is not None:
            found.append((tag, raw[start:at]))
        elif letter.islower():
            public = "a field of the event must be understood, and is not known to this version"
            raise DecodeError(f"{public}: {letter.decode()!r}", public)
    if _is_one_repeated(found):
        raise DecodeError("a field of the event is there twice")
    return tuple(found)


def _is_one_repeated(fields: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a tag that is not repeatable occurs more than once."""
    if len(fields) < 2:
        return False
    tags = [tag for tag, _ in fields]
    return any(tags.count(tag) > 1 for tag in set(tags) - REPEATABLE)
