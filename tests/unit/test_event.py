"""Events of version 2, which carry fields: they are read as written, or refused in one clear line."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microbatch.broker.errors import DecodeError, EncodeError
from microbatch.broker.wire.event import Event, encode_event, event_body, event_recorded_at_ms
from microbatch.broker.wire.fields import REPEATABLE, Fields, Tag
from microbatch.worker.unreadable import body_of

AT_MS = 1_700_000_000_123
STAMP = b"18bcfe5687b"
SECRET = b"4111-1111"

ONCE = [tag for tag in Tag if tag not in REPEATABLE]
VALUES = st.binary(max_size=255)
FIELDS = st.builds(
    lambda once, repeated: (*once, *repeated),
    st.lists(st.tuples(st.sampled_from(ONCE), VALUES), unique_by=lambda field: field[0]),
    st.lists(st.tuples(st.sampled_from(sorted(REPEATABLE)), VALUES), max_size=8),
)
TEXT_OF_AN_EVENT = st.sampled_from(
    [b"1", b"2", STAMP, b"000", b"006", b"fff", b"k03abc", b"z00", b"Z01", b"{}"]
)


def with_fields(fields: bytes, body: bytes = b"1") -> bytes:
    """An event of version 2, made by hand."""
    return b"2" + STAMP + b"%03x" % len(fields) + fields + body


def test_the_format_of_an_event_with_fields() -> None:
    event = Event(b'{"a":1}', AT_MS, ((Tag.KEY, b"user 7"), (Tag.TRACEPARENT, b"")))
    raw = event.encode()
    assert raw == b'218bcfe5687b00ck06user 7T00{"a":1}'
    assert event_body(raw) == b'{"a":1}'
    assert event_recorded_at_ms(raw) == AT_MS
    assert Event.decode(raw) == event


def test_each_field_has_the_letter_that_servers_hold() -> None:
    assert {tag.name: tag.value for tag in Tag} == {
        "KEY": "k", "REPLY_TO": "r", "EXPIRES": "x", "ID": "i", "ATTEMPT": "a", "TRACEPARENT": "T",
        "BAGGAGE": "B",
    }  # fmt: skip


def test_an_event_without_fields_is_written_in_version_1() -> None:
    event = Event(b"1", AT_MS)
    assert event.encode() == encode_event(b"1", AT_MS) == b"1" + STAMP + b"1"
    assert Event.decode(event.encode()) == event


def test_an_event_of_version_2_may_have_no_fields() -> None:
    assert Event.decode(with_fields(b"")) == Event(b"1", AT_MS)


@given(st.binary(min_size=1), st.integers(0, 0xFFFFFFFFFFF), FIELDS)
def test_an_event_is_read_as_it_was_written(body: bytes, recorded_at_ms: int, fields: Fields) -> None:
    event = Event(body, recorded_at_ms, fields)
    raw = event.encode()
    assert Event.decode(raw) == event
    assert event_body(raw) == body
    assert event_recorded_at_ms(raw) == recorded_at_ms


@given(st.binary() | st.lists(TEXT_OF_AN_EVENT | st.binary(max_size=3)).map(b"".join))
@example(with_fields(b"k01"))
def test_any_bytes_are_an_event_or_a_decode_error(raw: bytes) -> None:
    for read in (Event.decode, event_body, event_recorded_at_ms):
        with suppress(DecodeError):
            read(raw)


@given(FIELDS, st.data())
def test_an_event_that_is_cut_short_anywhere_is_refused(fields: Fields, data: st.DataObject) -> None:
    raw = Event(b"1", AT_MS, fields or ((Tag.KEY, b"a"),)).encode()
    with pytest.raises(DecodeError):
        Event.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


MALFORMED = {
    b"2": "malformed head",
    b"2" + STAMP: "malformed head",
    b"2" + STAMP + b"00": "malformed head",
    b"2" + STAMP + b"00g1": "malformed head",
    b"2" + STAMP + b"00A" + b"1" * 20: "malformed head",
    b"2" + b"z" * 11 + b"0001": "malformed head",
    b"2" + STAMP + b"000": "ends before its JSON",
    b"2" + STAMP + b"fffk03abc1": "ends before its JSON",
    with_fields(b"k03abc", b""): "ends before its JSON",
    with_fields(b"k"): "a field of the event is malformed",
    with_fields(b"k0"): "a field of the event is malformed",
    with_fields(b"k0Gabc"): "a field of the event is malformed",
    with_fields(b"k0Aabcdefghij"): "a field of the event is malformed",
    with_fields(b"k+1a"): "a field of the event is malformed",
    with_fields(b"\xc3\xa400"): "a field of the event is malformed",
    with_fields(b"100"): "a field of the event is malformed",
    with_fields(b"k09" + SECRET[:8], SECRET): "a field of the event is cut short",
    with_fields(b"k00k00"): "a field of the event is there twice",
    with_fields(b"T00T00"): "a field of the event is there twice",
    with_fields(b"z09" + SECRET, SECRET): "must be understood, and is not known to this version",
}


@pytest.mark.parametrize("raw", MALFORMED, ids=range(len(MALFORMED)))
def test_an_event_that_is_malformed_is_refused_in_words_that_quote_nothing(raw: bytes) -> None:
    for read in (event_body, Event.decode):
        with pytest.raises(DecodeError, match=MALFORMED[raw]) as caught:
            read(raw)
        assert caught.value.public.endswith(MALFORMED[raw])
    with pytest.raises(DecodeError, match=r"^the event can't be read: ") as caught:
        body_of(raw, 1_000)
    assert caught.value.public.endswith(MALFORMED[raw])
    assert SECRET[:4].decode() not in str(caught.value)


def test_a_field_that_must_be_understood_is_named_in_the_error() -> None:
    with pytest.raises(DecodeError, match=r"this version: 'z'$"):
        event_body(with_fields(b"z00"))


def test_a_field_that_may_be_ignored_is_left_out() -> None:
    raw = with_fields(b"Z03abck01aZ00")
    assert event_body(raw) == b"1"
    assert Event.decode(raw) == Event(b"1", AT_MS, ((Tag.KEY, b"a"),))


def test_a_field_may_be_repeated() -> None:
    event = Event(b"1", AT_MS, ((Tag.REPLY_TO, b"a"), (Tag.KEY, b"k"), (Tag.REPLY_TO, b"b")))
    read = Event.decode(event.encode())
    assert read == event
    assert (read.values(Tag.REPLY_TO), read.values(Tag.KEY), read.values(Tag.ID)) == (
        [b"a", b"b"],
        [b"k"],
        [],
    )


def test_the_time_of_an_event_can_be_read_although_its_fields_can_not() -> None:
    assert event_recorded_at_ms(with_fields(b"z00")) == AT_MS


def test_a_time_out_of_range_is_written_as_the_nearest_in_range() -> None:
    fields = ((Tag.KEY, b""),)
    stamps = [event_recorded_at_ms(Event(b"1", at_ms, fields).encode()) for at_ms in (-1, 2**70)]
    assert stamps == [0, 0xFFFFFFFFFFF]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (((Tag.KEY, b"a" * 256),), "a field of the event has 256 bytes; the most is 255: 'k'"),
        ((("z", b"a"),), "no field of this name: 'z'"),
        ((("Z", b"a"),), "no field of this name: 'Z'"),
        ((("", b"a"),), "no field of this name: ''"),
        ((("kk", b"a"),), "no field of this name: 'kk'"),
        (((Tag.KEY, b"a"), ("k", b"b")), "a field of the event is there twice"),
        (((Tag.REPLY_TO, b"a" * 255),) * 16, "the fields of the event have 4,128 bytes; the most is 4,095"),
    ],
)
def test_invalid_fields_are_not_written(fields: Fields, message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        Event(b"1", AT_MS, fields).encode()


def test_the_name_of_a_field_that_is_unknown_is_not_logged() -> None:
    with pytest.raises(EncodeError) as caught:
        Event(b"1", AT_MS, ((SECRET.decode(), b"a"),)).encode()
    assert caught.value.public == "an event has no field of this name"


def test_an_event_may_have_as_many_bytes_of_fields_as_three_digits_say() -> None:
    fields = (*((Tag.REPLY_TO, b"a" * 255),) * 15, (Tag.KEY, b"a" * (4_095 - 15 * 258 - 3)))
    raw = Event(b"1", AT_MS, fields).encode()
    assert raw[12:15] == b"fff"
    assert Event.decode(raw).fields == fields


def test_the_bound_of_an_events_size_is_that_of_its_json() -> None:
    raw = Event(b"123", AT_MS, ((Tag.KEY, b"a" * 255),)).encode()
    assert body_of(raw, 3) == b"123"
    with pytest.raises(DecodeError, match="the event has 3 bytes; the most is 2"):
        body_of(raw, 2)
