"""Values encoded as JSON, and rebuilt by annotation."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from microbatch.broker.errors import DecodeError, EncodeError
from microbatch.broker.wire.codec import Decoder, encode, encode_some

BYTES = bytes(range(256))


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Blob:
    data: bytes
    at: datetime | None = None


@dataclass
class Parcel:
    blobs: list[Blob]
    labels: set[str] = field(default_factory=set)


class Point(NamedTuple):
    x: int
    y: float


class Letter(BaseModel):
    text: str
    size: int = 1


class Envelope(BaseModel):
    letters: list[Letter]


class Opaque:
    pass


def circular() -> object:
    items: list[object] = [1]
    items.append({"again": items})
    return items


VALUES: list[tuple[object, Any, bytes]] = [
    (None, None, b"null"),
    (True, bool, b"true"),
    (0, int, b"0"),
    (-7, int, b"-7"),
    (2**100, int, b"1267650600228229401496703205376"),
    (0.1, float, b"0.1"),
    (1e300, float, b"1e+300"),
    (math.inf, float, b"Infinity"),
    ("", str, b'""'),
    ("grüße 😀 \u2028", str, '"grüße 😀 \u2028"'.encode()),
    ('a\nb\r\t\0"\\', str, b'"a\\nb\\r\\t\\u0000\\"\\\\"'),
    ([], list[int], b"[]"),
    ([1, "a", None], list[int | str | None], b'[1,"a",null]'),
    ({"a": {"b": [1]}}, dict[str, Any], b'{"a":{"b":[1]}}'),
    ({1: "one"}, dict[int, str], b'{"1":"one"}'),
    ((1, "a"), tuple[int, str], b'[1,"a"]'),
    ({5}, set[int], b"[5]"),
    (frozenset({5}), frozenset[int], b"[5]"),
    (b"\xfb\xff\x00", bytes, b'"-_8A"'),
    (datetime(2024, 2, 29, 23, 59, 1, 5, UTC), datetime, b'"2024-02-29T23:59:01.000005Z"'),
    (datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))), datetime, b'"2024-01-01T00:00:00+02:00"'),
    (date(2024, 2, 29), date, b'"2024-02-29"'),
    (timedelta(seconds=90), timedelta, b'"PT1M30S"'),
    (UUID(int=5), UUID, b'"00000000-0000-0000-0000-000000000005"'),
    (Decimal("1.10"), Decimal, b'"1.10"'),
    (Colour.RED, Colour, b'"red"'),
    (Level.HIGH, Level, b"3"),
    (Point(1, 2.5), Point, b"[1,2.5]"),
    (Letter(text="a"), Letter, b'{"text":"a","size":1}'),
    (Envelope(letters=[Letter(text="a")]), Envelope, b'{"letters":[{"text":"a","size":1}]}'),
    (Parcel([], {"x"}), Parcel, b'{"blobs":[],"labels":["x"]}'),
]  # fmt: skip


@pytest.mark.parametrize(("value", "annotation", "body"), VALUES, ids=lambda part: repr(part)[:30])
def test_what_is_encoded_is_rebuilt_by_its_annotation(value: object, annotation: Any, body: bytes) -> None:
    assert encode(value) == body
    decoder = Decoder(annotation)
    for rebuilt in (decoder.one(body), *decoder.many([body, body])):
        assert rebuilt == value
        assert type(rebuilt) is type(value)


@pytest.mark.parametrize("value", [BYTES, b"", b"text"])
def test_bytes_go_as_base64(value: bytes) -> None:
    assert Decoder(bytes).many([encode(value)]) == [value]
    assert Decoder(bytes).one(encode(value)) == value
    assert Decoder(dict[str, bytes]).many([encode({"a": value})]) == [{"a": value}]


@pytest.mark.parametrize("value", [Blob(BYTES), Parcel([Blob(BYTES, datetime(2024, 1, 1, tzinfo=UTC))])])
def test_bytes_in_a_dataclass_go_as_base64(value: object) -> None:
    assert Decoder(type(value)).many([encode(value)]) == [value]


@pytest.mark.parametrize("value", [Blob(BYTES), Parcel([Blob(BYTES)])])
def test_one_dataclass_is_rebuilt_as_many_are(value: object) -> None:
    assert Decoder(type(value)).one(encode(value)) == value


class Measured(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    value: float


def test_what_is_not_a_number_stays_that() -> None:
    for annotation in (float, Any):
        found = Decoder(annotation).many([encode(math.nan), encode(-math.inf)])
        assert math.isnan(found[0])
        assert found[1] == -math.inf
    assert math.isnan(Decoder(Measured).one(encode(Measured(value=math.nan))).value)
    assert encode(Letter(text="a").model_copy(update={"size": math.nan})) == b'{"text":"a","size":null}'


def test_without_an_annotation_values_are_plain() -> None:
    bodies = [encode(value) for value in (Letter(text="ä"), b"\0", {2}, Colour.RED, None, 2**70)]
    expected = [{"text": "ä", "size": 1}, "AA==", [2], "red", None, 2**70]
    assert Decoder(Any).many(bodies) == expected
    assert Decoder(object).many(bodies) == expected
    assert Decoder(Any).many([]) == []


@pytest.mark.parametrize(
    ("make", "type_name"),
    [
        (Opaque, r"tests\.unit\.test_codec\.Opaque: "),
        (object, "object: "),
        (lambda: {"inner": Opaque()}, r"dict: .*test_codec\.Opaque"),
        (lambda: [1, [object()]], "list: .*object"),
        (lambda: Blob(Opaque()), r"tests\.unit\.test_codec\.Blob: .*Opaque"),  # type: ignore[arg-type]
        (lambda: len, "builtin_function_or_method: "),
        (lambda: Opaque, "type: "),
        (circular, "list: .*[Cc]ircular"),
        (lambda: "\ud800", "str: .*surrogate"),
    ],
)
def test_a_value_without_json_is_refused_by_the_name_of_its_type(
    make: Callable[[], object], type_name: str
) -> None:
    with pytest.raises(EncodeError, match=f"the event cannot be encoded as JSON: {type_name}"):
        encode(make())
    with pytest.raises(EncodeError, match="the result cannot be encoded"):
        encode(make(), "result")


@pytest.mark.parametrize(
    ("annotation", "bad", "message"),
    [
        (int, b'"x"', r"at position 2 does not fit: Input should be a valid integer"),
        (Letter, b'{"text":"a","size":"big"}', r"at position 2 does not fit: size: Input should be"),
        (Letter, b'{"size":[]}', r"at position 2 does not fit: text: Field required \(and 1 more\)"),
        (Envelope, b'{"letters":[{"text":1}]}', r"at position 2 does not fit: letters\.0\.text: "),
        (Blob, b"{}", r"at position 2 does not fit: data: Field required"),
    ],
)
def test_what_does_not_fit_is_told_by_position_and_field(annotation: Any, bad: bytes, message: str) -> None:
    good = {int: b"1", Letter: b'{"text":"a"}', Envelope: b'{"letters":[]}', Blob: b'{"data":""}'}[annotation]
    with pytest.raises(DecodeError, match=message) as caught:
        Decoder(annotation).many([good, good, bad, good])
    assert "\n" not in str(caught.value)


def test_the_value_that_does_not_fit_is_not_told() -> None:
    with pytest.raises(DecodeError) as caught:
        Decoder(Letter).many([b'{"text":"a","size":"secret"}'])
    assert "secret" not in str(caught.value)


FORGED = [
    b"1],[2", b"1,2", b"2],3", b"", b" ", b"]", b"1}", b"[1", b'"', b'"a', b'{"a":1', b'"b":2},3',
    b'{"a":1,}', b"nope", b"\xff",
]  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("annotation", [Any, int, list[int]])
def test_an_event_that_is_not_one_value_does_not_move_the_others(annotation: Any, forged: bytes) -> None:
    good = b"[7]" if annotation == list[int] else b"7"
    for bodies in ([forged], [good, forged], [forged, good]):
        with pytest.raises(DecodeError, match=f"event at position {bodies.index(forged)} does not fit"):
            Decoder(annotation).many(bodies)


@given(st.lists(st.sampled_from([*FORGED, b"1", b"[2]", b'"c"', b'{"a":1}', b" 5 "]) | st.binary(max_size=4)))
@example([b"[1", b"2],3"])
@example([b"1,2", b'"a', b'b"'])
@example([b'{"a":1', b'"b":2},3'])
def test_events_that_are_forged_together_are_no_values_either(bodies: list[bytes]) -> None:
    """Two halves of one value, for example, with a third body that makes up for the one that is missing."""

    def read_alone() -> list[Any] | None:
        try:
            return [json.loads(body.decode("utf-8")) for body in bodies]
        except ValueError:
            return None

    try:
        values = Decoder(Any).many(bodies)
    except DecodeError:
        assert read_alone() is None
    else:
        assert repr(values) == repr(read_alone())


def test_an_error_names_what_was_read() -> None:
    with pytest.raises(DecodeError, match="the result does not fit: Input should be a valid integer"):
        Decoder(int).one(b'"x"')


def test_a_type_that_nothing_can_be_rebuilt_as_is_refused() -> None:
    with pytest.raises(TypeError, match="Opaque"):
        Decoder(Opaque)


def digits(count: int) -> int:
    """An integer with this many digits. Python itself would not parse its text."""
    return int(7 * (10**count - 1) // 9)


def nested(levels: int, innermost: object = 1, *, key: str = "") -> Any:
    for _ in range(levels):
        innermost = {key: innermost} if key else [innermost]
    return innermost


@pytest.mark.parametrize(
    "value",
    [
        nested(201),
        {"a": [nested(200)]},
        nested(201, key="k"),
        digits(4_301),
        [1, -digits(4_301)],
        {"few": 1, "many": [0, digits(6_000)]},
        10**8_599,
    ],
    ids=["lists", "in a dict", "dicts", "digits", "negative", "inside", "two lengths"],
)
@pytest.mark.parametrize("what", ["event", "result"])
def test_values_that_no_reader_accepts_are_refused(value: object, what: str) -> None:
    with pytest.raises(EncodeError, match=f"the {what} cannot be encoded as JSON: .* no reader takes it: "):
        encode(value, what)
    with pytest.raises(EncodeError, match="no reader takes it"):
        encode_some(iter([1, value]), 10, 1_000_000)


@pytest.mark.parametrize(
    "value",
    [
        nested(200),
        nested(200, key="k"),
        digits(4_300),
        [digits(4_000)] * 3,
        "9" * 10_000,
        "[" * 10_000,
        ["[{" * 300, {"a": "]"}],
        [[]] * 1_000,
        [{}] * 1_000,
    ],
    ids=["lists", "dicts", "digits", "long numbers", "text of digits", "text", "texts", "wide", "wide dicts"],
)
def test_values_that_only_look_too_large_are_accepted(value: object) -> None:
    assert Decoder(object).one(encode(value)) == value


@given(st.integers(0, 9_000), st.integers(4_290, 4_310))
def test_a_long_number_is_found_wherever_it_stands(before: int, length: int) -> None:
    value = ["x" * before, digits(length)]
    if length > 4_300:
        with pytest.raises(EncodeError):
            encode(value)
    else:
        assert Decoder(object).one(encode(value)) == value
