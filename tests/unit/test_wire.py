"""The wire format. Servers keep it longer than a version lives, so a change here needs a new digit."""

from __future__ import annotations

import json

import pytest

from microbatch.broker.errors import DecodeError
from microbatch.broker.wire import identity
from microbatch.broker.wire.event import encode_event, event_body, event_recorded_at_ms
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.outcome import Outcome

HEADER = Header(Trigger.TICK, 3, 1_700_000_000_123)
FAILURE = Failure('ValueError: "ü"\n', "Traceback\n  line", 4)


def test_an_event_is_a_digit_a_time_and_its_json() -> None:
    raw = encode_event(b'{"a":1}', 1_700_000_000_123)
    assert raw == b'118bcfe5687b{"a":1}'
    assert event_body(raw) == b'{"a":1}'
    assert event_recorded_at_ms(raw) == 1_700_000_000_123


@pytest.mark.parametrize("raw", [b"", b"1", b"118bcfe5687b", b"318bcfe5687b1", b'{"a":1}', b"\xff" * 20])
def test_what_is_no_event_is_not_read_as_one(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="not an event of version 1 or 2"):
        event_body(raw)


@pytest.mark.parametrize("raw", [b"", b"1", b"1 not a time 1", b'"a string of JSON"'])
def test_an_event_without_a_time_is_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="no time of recording"):
        event_recorded_at_ms(raw)


def test_a_header_is_json_with_its_version() -> None:
    assert json.loads(HEADER.encode()) == {
        "v": 1, "trigger": "tick", "size": 3, "cut_at_ms": 1_700_000_000_123,
    }  # fmt: skip
    decoded = Header.decode(HEADER.encode().encode())
    assert decoded == HEADER
    assert decoded.trigger is Trigger.TICK


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "batch header is not JSON"),
        (b"\xff\xfe", "batch header is not JSON"),
        (b"[" * 100_000, "batch header is not JSON"),
        (b"3", "batch header is not of version 1"),
        (b'{"v":2,"trigger":"tick","size":3,"cut_at_ms":1}', "batch header is not of version 1"),
        (b'{"trigger":"tick","size":3,"cut_at_ms":1}', "batch header is not of version 1"),
        (b'{"v":1,"trigger":"tock","size":3,"cut_at_ms":1}', "malformed: 'tock'"),
        (b'{"v":1,"trigger":"tick","cut_at_ms":1}', "malformed: 'size'"),
        (b'{"v":1,"trigger":"tick","size":"many","cut_at_ms":1}', "malformed"),
        (b'{"v":1,"trigger":"tick","size":null,"cut_at_ms":1}', "malformed"),
    ],
)
def test_what_is_no_header_is_not_read_as_one(raw: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Header.decode(raw)


def test_a_header_may_gain_fields() -> None:
    assert Header.decode(b'{"v":1,"trigger":"tick","size":3,"cut_at_ms":5,"key":"k"}') == Header(
        Trigger.TICK, 3, 5
    )


def test_a_failure_is_read_as_it_was_written() -> None:
    assert Failure.decode(FAILURE.encode().encode()) == FAILURE


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"no", "failure is not JSON"),
        (b'{"v":2}', "failure is not of version 1"),
        (b'{"v":1,"error":"e"}', "failure is malformed: 'traceback'"),
        (b'{"v":1,"error":"e","traceback":"t","attempts":"some"}', "failure is malformed"),
    ],
)
def test_what_is_no_failure_is_not_read_as_one(raw: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        Failure.decode(raw)


def fields_of(outcome: Outcome) -> dict[bytes, bytes]:
    flat = [str(item).encode() if not isinstance(item, bytes) else item for item in outcome.encode()]
    return dict(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("0a", HEADER, 2, 1_700_000_000_000, result=b'{"total":6}'),
        Outcome("0a", HEADER, 4, 1_700_000_000_000, failure=FAILURE),
    ],
)
def test_an_outcome_is_read_as_it_was_written(outcome: Outcome) -> None:
    assert Outcome.decode(fields_of(outcome)) == outcome


@pytest.mark.parametrize(
    "change",
    [
        {b"v": b"2"},
        {b"v": b""},
        {b"header": b"{}"},
        {b"attempt": b"x"},
        {b"batch": b"\xff"},
        {b"failure": b"no"},
    ],
)
def test_what_is_no_outcome_is_not_read_as_one(change: dict[bytes, bytes]) -> None:
    fields = fields_of(Outcome("0a", HEADER, 2, 1, result=b"6")) | change
    with pytest.raises(DecodeError):
        Outcome.decode(fields)


@pytest.mark.parametrize("missing", [b"v", b"batch", b"header", b"attempt", b"recorded_at"])
def test_an_outcome_without_one_of_its_fields_is_refused(missing: bytes) -> None:
    fields = fields_of(Outcome("0a", HEADER, 2, 1, result=b"6"))
    del fields[missing]
    with pytest.raises(DecodeError, match="on the results stream"):
        Outcome.decode(fields)


def test_ids_are_random_and_such_as_rq_takes() -> None:
    ids = {identity.new_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert all(len(batch_id) == 32 and batch_id.isalnum() for batch_id in ids)
