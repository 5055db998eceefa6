"""An event that is recorded again has no address for a reply and no time of expiry, and is else the same."""

from __future__ import annotations

import string
from collections.abc import Callable
from importlib.resources import files

import fakeredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire.event import Event
from microbatch.broker.wire.fields import MOST_BYTES, REPEATABLE, Tag

STRIPPED = (Tag.REPLY_TO, Tag.EXPIRES)
Strip = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def strip() -> Strip:
    """The function of the script, as the server runs it."""
    text = files("microbatch.broker.lua").joinpath("shared", "without_reply.lua").read_text("utf-8")
    client = fakeredis.FakeRedis()
    script = client.register_script(f"{text}\nreturn without_reply(ARGV[1])")
    return lambda raw: bytes(script(args=[raw]))


def fits(event: Event) -> bool:
    tags = [tag for tag, _ in event.fields]
    once = all(tags.count(tag) == 1 for tag in set(tags) - REPEATABLE)
    return once and sum(3 + len(value) for _, value in event.fields) <= MOST_BYTES


FIELDS = st.lists(st.tuples(st.sampled_from(list(Tag)), st.binary(max_size=255)), max_size=12).map(tuple)
EVENTS = st.builds(Event, st.binary(min_size=1), st.integers(0, 2**44 - 1), FIELDS).filter(fits)


@given(EVENTS)
def test_all_else_is_kept(strip: Strip, event: Event) -> None:
    kept = tuple((tag, value) for tag, value in event.fields if tag not in STRIPPED)
    assert strip(event.encode()) == Event(event.body, event.recorded_at_ms, kept).encode()


def field(tag: str, value: bytes) -> bytes:
    return b"%b%02x%b" % (tag.encode(), len(value), value)


def with_fields(*fields: bytes, body: bytes = b"{}") -> bytes:
    joined = b"".join(fields)
    return b"2%011x%03x%b%b" % (5, len(joined), joined, body)


@given(
    st.sampled_from(sorted(set(string.ascii_letters) - {tag.value for tag in Tag})), st.binary(max_size=50)
)
def test_a_field_of_a_later_version_is_kept(strip: Strip, letter: str, value: bytes) -> None:
    unknown = field(letter, value)
    assert strip(with_fields(field("r", b"a"), unknown, field("x", b"1"))) == with_fields(unknown)


@given(st.binary())
@example(b"")
@example(b"2")
@example(b"100000000005{}")
@example(b"3" + with_fields(field("r", b"a"))[1:])
@example(with_fields(field("r", b"a"), body=b""))
@example(with_fields(b"r 1a"))  # C's and Lua's numbers may begin with a blank or a sign
@example(with_fields(b"r+1a"))
@example(with_fields(b"r-1a"))
@example(with_fields(b"r0Aaaaaaaaaaa"))
@example(with_fields(b"r05a"))
@example(with_fields(b"\xff01a", field("r", b"a")))
@example(with_fields(b"r"))
@example(b"2" + b"A" * 11 + b"004r01a{}")
@example(b"2" + b"0" * 11 + b"fffr01a{}")
def test_foreign_bytes_stay_as_they_are(strip: Strip, raw: bytes) -> None:
    try:
        event = Event.decode(raw)
    except DecodeError:
        assert strip(raw) == raw
    else:
        assert strip(raw) == raw or event.fields
