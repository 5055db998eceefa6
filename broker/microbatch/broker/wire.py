"""The wire format: what the values behind the keys look like.

An event is one string: a version digit, when it was recorded (11 hex digits, unix ms), its JSON.
The version digit leaves room for events that carry more; those that don't pay nothing for it.

A batch opens with two values of its own. The header is written at the cut and read by everyone
after it. The run record is one line of text, so that scripts can compare and replace it whole.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from microbatch.broker.errors import DecodeError

VERSION = 1
_EVENT_VERSION = b"1"
_STAMP_DIGITS = 11
_PREFIX_LENGTH = 1 + _STAMP_DIGITS
_PRINTED = 100
_LONGEST_TEXT = 1_000_000  # of an error or a traceback, in characters
_STAMP = re.compile(rb"[0-9a-f]{11}")
_LAST_STAMP = 0xFFFFFFFFFFF
LAST_MS = 253_402_300_799_999  # of the year 9999: no later moment can be told
_BATCH_ID = re.compile(r"[0-9a-f]{32}(-[0-9a-f]{16})?")


def new_id() -> str:
    """A random id. Never a counter: one whose last values died with the server would repeat."""
    return secrets.token_hex(16)


def printable(raw: bytes | str) -> str:
    """Something that may be anything, on one line, fit for a log."""
    text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    return text[:_PRINTED].encode("unicode_escape").decode("ascii")


def new_part_id(batch_id: str) -> str:
    """A random id for a part of a batch, or of a part of it; it tells the batch that was cut."""
    return f"{root_of(batch_id)}-{secrets.token_hex(8)}"


def is_batch_id(text: str) -> bool:
    """Whether this can be the id of a batch or of a part of one, and so may become a part of a key."""
    return _BATCH_ID.fullmatch(text) is not None


def root_of(batch_id: str) -> str:
    """The batch that was cut, of which this one is a part, or which it is."""
    return batch_id.partition("-")[0]


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


def known_moment(unix_ms: int) -> int:
    """The same moment. Raises DecodeError if no calendar has it."""
    if not 0 <= unix_ms <= LAST_MS:
        raise DecodeError("a moment lies beyond all calendars")
    return unix_ms


class Trigger(StrEnum):
    """Why a batch was cut."""

    SIZE = "size"
    TICK = "tick"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True)
class Header:
    """What a batch knows of itself from its cut on."""

    trigger: Trigger
    size: int
    cut_at_ms: int
    parent: str = ""
    """The batch that this one is a part of, if it is one."""

    def encode(self) -> str:
        fields = {"v": VERSION, "trigger": self.trigger, "size": self.size, "cut_at_ms": self.cut_at_ms}
        if self.parent:
            fields["parent"] = self.parent
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def decode(cls, raw: bytes) -> Header:
        """Raises DecodeError when ``raw`` is not a header of this version."""
        fields = _versioned(raw, "batch header")
        try:
            return cls(
                Trigger(fields["trigger"]),
                int(fields["size"]),
                known_moment(int(fields["cut_at_ms"])),
                str(fields.get("parent", "")),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            public = "a batch header is malformed"
            raise DecodeError(f"{public}: {error}", public) from None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a batch is dead: the last attempt's error."""

    error: str
    traceback: str
    attempts: int

    def encode(self) -> str:
        """The failure as it is stored. A very long text loses its middle, as no server takes any length."""
        texts = {"error": shortened(self.error), "traceback": shortened(self.traceback)}
        return json.dumps({"v": VERSION, **asdict(self), **texts}, separators=(",", ":"))

    @classmethod
    def decode(cls, raw: bytes) -> Failure:
        """Raises DecodeError when ``raw`` is not a failure of this version."""
        fields = _versioned(raw, "failure")
        try:
            return cls(str(fields["error"]), str(fields["traceback"]), int(fields["attempts"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            public = "a failure is malformed"
            raise DecodeError(f"{public}: {error}", public) from None


def shortened(text: str) -> str:
    """The text, without its middle if it is longer than what is stored of an error."""
    if len(text) <= _LONGEST_TEXT:
        return text
    half = _LONGEST_TEXT // 2
    return f"{text[:half]} [{len(text) - 2 * half:,} characters left out] {text[-half:]}"


def _versioned(raw: bytes, what: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        raise DecodeError(f"a {what} is not JSON") from None
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise DecodeError(f"a {what} is not of version {VERSION}")
    return fields
