"""The wire format of replies, and of the fields by which an event asks for one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.event import Event
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.fields import Tag
from microbatch.broker.wire.reply import (
    EXPIRED,
    Address,
    Replies,
    Reply,
    addresses_of,
    expires_at_ms,
    numbers_of,
)

ONE, OTHER = "0" * 15 + "a", "f" * 16
FAILURE = Failure("ValueError: no", "Traceback ...", 3)


def event(*addresses: Address, expires: bytes | None = None) -> bytes:
    fields = tuple((Tag.REPLY_TO, address.encode()) for address in addresses)
    if expires is not None:
        fields += ((Tag.EXPIRES, expires),)
    return Event(b"{}", 1, fields).encode()


@given(st.text("0123456789abcdef", min_size=16, max_size=16), st.integers(0, 2**64 - 1))
def test_an_address_is_read_as_it_was_written(client: str, number: int) -> None:
    address = Address(client, number)
    assert Address.decode(address.encode()) == address


@pytest.mark.parametrize(
    "raw", [b"", b"0" * 16, b"0" * 33, b"0" * 15 + b"G1", b"0" * 17 + b"\n", b"\xff" * 17]
)
def test_another_address_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="a malformed address"):
        Address.decode(raw)


@pytest.mark.parametrize("reply", [EXPIRED, Reply(result=b"null"), Reply(result=b""), Reply(failure=FAILURE)])
def test_a_reply_is_read_as_it_was_written(reply: Reply) -> None:
    assert Reply.decode(reply.encode()) == reply


@given(st.binary())
@example(b"")
@example(b"xx")
@example(b"!")
@example(b'!{"v":1}')
@example(b"!" + b"[" * 100_000)
def test_any_bytes_are_a_reply_or_a_decode_error(raw: bytes) -> None:
    try:
        reply = Reply.decode(raw)
    except DecodeError:
        return
    assert reply == EXPIRED or reply.result is not None or reply.failure is not None


def test_a_long_traceback_loses_its_middle_in_a_reply() -> None:
    """Each client of a batch gets its failure, so a long one would be sent many times."""
    failure = Failure("e" * 1_000_000, f"begin{'t' * 1_000_000}end", 3)
    raw = Reply(failure=failure).encode()
    assert len(raw) < 21_000
    found = Reply.decode(raw).failure
    assert found is not None
    assert (found.traceback[:5], found.traceback[-3:], found.attempts) == ("begin", "end", 3)


def test_an_event_without_an_address_wants_no_reply() -> None:
    replies = Replies()
    replies.add([event(), b"1" + b"0" * 11 + b"{}", b"", b"foreign"], EXPIRED)
    assert not replies
    assert list(replies.entries()) == []


def test_each_address_of_an_event_gets_the_reply() -> None:
    replies = Replies()
    raw = event(Address(ONE, 1), Address(OTHER, 255), Address(ONE, 2))
    replies.add([raw], Reply(result=b"5"))
    assert list(replies.entries()) == [(ONE, ["1,2", b"=5"]), (OTHER, ["ff", b"=5"])]


def test_a_failure_of_many_events_is_written_once_for_each_client() -> None:
    replies = Replies()
    raws = [event(Address(ONE if number % 2 else OTHER, number)) for number in range(25_000)]
    replies.add(raws, Reply(failure=FAILURE))
    entries = dict(replies.entries())
    assert entries.keys() == {ONE, OTHER}
    field, value = entries[ONE]
    assert value == Reply(failure=FAILURE).encode()
    assert numbers_of(str(field).encode()) == list(range(1, 25_000, 2))


def test_an_entry_has_at_most_3900_pairs() -> None:
    replies = Replies()
    for number in range(3_901):
        replies.add([event(Address(ONE, number))], Reply(result=b"%d" % number))
    entries = list(replies.entries())
    assert [(client, len(pairs)) for client, pairs in entries] == [(ONE, 7_800), (ONE, 2)]
    assert entries[1][1] == [f"{3_900:x}", b"=3900"]


@pytest.mark.parametrize(
    "field", [b"", b",", b"1,", b"1,g", b"-1", b"+1", b" 1", b"1_0", b"0" * 17, b"open", b"A"]
)
def test_a_foreign_field_has_no_numbers(field: bytes) -> None:
    assert numbers_of(field) == []


def test_an_event_with_a_malformed_address_gets_no_reply() -> None:
    good, bad = (Tag.REPLY_TO, Address(ONE, 1).encode()), (Tag.REPLY_TO, b"who?")
    assert addresses_of(Event(b"{}", 1, (good, bad)).encode()) == []
    assert addresses_of(Event(b"{}", 1, (good,)).encode()) == [Address(ONE, 1)]


def test_the_time_of_expiry_is_read_from_the_event() -> None:
    assert expires_at_ms(event(expires=b"1700000000000")) == 1_700_000_000_000
    assert expires_at_ms(event()) is None
    assert expires_at_ms(b"100000000000{}") is None


@pytest.mark.parametrize("value", [b"", b"-1", b"soon", b"1.5", b"\xd9\xa1", b"1" * 16])
def test_a_malformed_time_of_expiry_is_refused(value: bytes) -> None:
    with pytest.raises(DecodeError, match="a malformed time of expiry"):
        expires_at_ms(event(expires=value))
