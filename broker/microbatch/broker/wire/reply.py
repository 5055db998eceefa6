"""Replies: the outcome of a single event, as its client reads it from its reply stream.

An event that wants a reply carries the client's id and a number (`Tag.REPLY_TO`). The reply is in an entry on
the client's stream. A field has the numbers of all events that have one and the same reply, so the failure of
a batch is written once. The field's value is the reply, and its first character says what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.event import event_fields
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.fields import Tag
from microbatch.broker.wire.text import shortened

_ADDRESS = re.compile(rb"([0-9a-f]{16})([0-9a-f]{1,16})")
_RESULT, _FAILED, _EXPIRED = b"=", b"!", b"x"
_NUMBER = re.compile(rb"[0-9a-f]{1,16}")
_MOST_PAIRS = 3_900  # in one entry: a script can unpack fewer than 8,000 values
_LONGEST_TEXT = 10_000  # of an error or a traceback, in characters; the dead batch has the whole text


class Address(NamedTuple):
    """Where the reply to an event goes."""

    client: str
    number: int

    def encode(self) -> bytes:
        return f"{self.client}{self.number:x}".encode()

    @classmethod
    def decode(cls, raw: bytes) -> Address:
        """Raises DecodeError if it is not an address."""
        if (found := _ADDRESS.fullmatch(raw)) is None:
            raise DecodeError("an event has a malformed address for its reply")
        return cls(found[1].decode(), int(found[2], 16))


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of an event: its result, or the failure that it died of, or neither: it has expired."""

    result: bytes | None = None
    """The JSON of its result."""
    failure: Failure | None = None

    def encode(self) -> bytes:
        if self.result is not None:
            return _RESULT + self.result
        if (failure := self.failure) is None:
            return _EXPIRED
        error, traceback = (shortened(text, _LONGEST_TEXT) for text in (failure.error, failure.traceback))
        return _FAILED + replace(failure, error=error, traceback=traceback).encode().encode()

    @classmethod
    def decode(cls, raw: bytes) -> Reply:
        """Raises DecodeError if it is not a reply of this version."""
        kind, body = raw[:1], raw[1:]
        if kind == _RESULT:
            return cls(result=body)
        if kind == _FAILED:
            return cls(failure=Failure.decode(body))
        if raw == _EXPIRED:
            return cls()
        raise DecodeError("a reply is not of this version")


EXPIRED = Reply()


class Replies:
    """The replies to the events of one batch."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[bytes, list[str]]] = {}  # of each client, by the reply

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, raws: Sequence[bytes], reply: Reply) -> None:
        """Reply to events, as often as each asks for it. An event without an address gets no reply."""
        value = b""
        for raw in raws:
            for client, number in addresses_of(raw):
                value = value or reply.encode()
                self._numbers.setdefault(client, {}).setdefault(value, []).append(f"{number:x}")

    def entries(self) -> Iterable[tuple[str, list[bytes | str]]]:
        """The entries to be added: each client, and the fields and values of an entry on its stream."""
        for client, by_reply in self._numbers.items():
            pairs: list[bytes | str] = []
            for value, numbers in by_reply.items():
                pairs += (",".join(numbers), value)
            for start in range(0, len(pairs), 2 * _MOST_PAIRS):
                yield client, pairs[start : start + 2 * _MOST_PAIRS]


def numbers_of(field: bytes) -> list[int]:
    """The numbers of the events that a field's value is the reply to. None for a foreign field."""
    words = field.split(b",")
    return [int(word, 16) for word in words] if all(map(_NUMBER.fullmatch, words)) else []


def addresses_of(raw: bytes) -> list[Address]:
    """Where the replies to an event go. None for an event that can't be read: it dies without a reply."""
    if raw[:1] != b"2":
        return []
    try:
        return [Address.decode(value) for tag, value in event_fields(raw) if tag == Tag.REPLY_TO]
    except DecodeError:
        return []


def expires_at_ms(raw: bytes) -> int | None:
    """When an event expires (unix ms); None if it does not. Raises DecodeError if the field is malformed."""
    if raw[:1] != b"2":
        return None
    values = [value for tag, value in event_fields(raw) if tag == Tag.EXPIRES]
    if not values:
        return None
    if not values[0].isdigit() or len(values[0]) > 15:
        raise DecodeError("an event has a malformed time of expiry")
    return int(values[0])
