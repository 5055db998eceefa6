"""The feed: it makes events of lines, in chunks, and reports an error with its position."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Iterator
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import InDoubt, Unavailable
from microbatch.broker.wire.event import event_body
from microbatch.ops import pace
from microbatch.ops.feed import Feed, FeedBroken
from microbatch.ops.line_events import json_event, text_event
from microbatch.ops.pace import Pace
from microbatch.producer.recorder import Recorder
from tests.doubles import set_time
from tests.unit.conftest import MakeBroker
from tests.unit.steps import FakeClient


class Feeding:
    """A feed over a fake server, and its progress reports."""

    def __init__(self, broker: Broker, *, rate: float | None = None, skip: bool = False) -> None:
        self.recorder = Recorder(broker, max_size=3)
        self.progress = 0
        self.skipped: list[str] = []
        self.feed = Feed(
            self.recorder,
            json_event,
            pace=Pace(rate),
            on_invalid=self.skipped.append if skip else None,
            on_progress=self._on_progress,
        )

    def read(self, text: bytes) -> None:
        self.feed.read("events", io.BytesIO(text))

    def _on_progress(self, size: int) -> None:
        self.progress += size


def bodies(broker: Broker, client: FakeClient) -> list[bytes]:
    return [event_body(raw) for raw in client.lrange(broker.keys.events, 0, -1)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"", []),
        (b"\n\n \n", []),
        (b"1", [b"1"]),
        (b"1\n2\n", [b"1", b"2"]),
        (b"1\r\n2", [b"1", b"2"]),
        (b"\xef\xbb\xbf1\n2\n", [b"1", b"2"]),  # some editors begin a file like this
        (b' {"a": 1} \n""\n', [b'{"a": 1}', b'""']),
    ],
)
def test_lines_of_json(broker: Broker, client: FakeClient, text: bytes, events: list[bytes]) -> None:
    feeding = Feeding(broker)
    feeding.read(text)
    assert bodies(broker, client) == events
    assert feeding.recorder.recorded == len(events)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
def test_lines_are_whole_however_they_arrive(broker: Broker, client: FakeClient, size: int) -> None:
    """A long line arrives in many blocks, and a block has many lines."""
    lines = [b"%d" % 10**length for length in range(20)] + [b'"%s"' % (b"x" * 200_000)]

    class Drips(io.BytesIO):
        def read1(self, _size: int | None = -1, /) -> bytes:
            return self.read(size if self.tell() < 1000 else 1 << 16)

    Feeding(broker).feed.read("drips", Drips(b"\n".join(lines)))
    assert bodies(broker, client) == lines


@pytest.mark.parametrize(
    "line", [b"nul", b"[1, 2", b"1 2", b"NaN", b"Infinity", b"'a'", b'"\xff"', b'"\\ud800"', b"[" * 300]
)
def test_what_is_not_json_ends_it_there(broker: Broker, client: FakeClient, line: bytes) -> None:
    feeding = Feeding(broker)
    with pytest.raises(
        FeedBroken, match=r"^events:3: not JSON: .*; 2 events were recorded; correct the line"
    ):
        feeding.read(b"1\n2\n" + line + b"\n4\n")
    assert bodies(broker, client) == [b"1", b"2"]


def test_what_is_not_json_is_left_out_when_asked(broker: Broker, client: FakeClient) -> None:
    feeding = Feeding(broker, skip=True)
    feeding.read(b"x\n1\ny\n2\n")
    assert bodies(broker, client) == [b"1", b"2"]
    assert [what.partition(": ")[0] for what in feeding.skipped] == ["events:1", "events:3"]


LARGE = b'"' + b"x" * 100 + b'"'


def test_a_line_that_is_too_large_ends_it_there(make_broker: MakeBroker, client: FakeClient) -> None:
    broker = make_broker(max_event_bytes=100)
    with pytest.raises(FeedBroken) as raised:
        Feeding(broker).read(b"1\n2\n" + LARGE + b"\n3\n")
    assert str(raised.value).startswith(
        "events:3: an event has 102 bytes; max_event_bytes allows 100; 2 events were recorded; "
    )
    assert bodies(broker, client) == [b"1", b"2"]


def test_a_line_that_is_too_large_is_left_out_when_asked(make_broker: MakeBroker, client: FakeClient) -> None:
    broker = make_broker(max_event_bytes=100)
    feeding = Feeding(broker, skip=True)
    feeding.read(b"1\n" + LARGE + b"\n2\n")
    assert feeding.skipped == ["events:2: an event has 102 bytes; max_event_bytes allows 100"]
    assert bodies(broker, client) == [b"1", b"2"]


TEXT = '{"a": 1}\n'


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gzip.compress(TEXT.encode()), "it is compressed with gzip: record what `gzip -dc` makes of it"),
        (bz2.compress(TEXT.encode()), "it is compressed with bzip2: record what `bzip2 -dc` makes of it"),
        (lzma.compress(TEXT.encode()), "it is compressed with xz: record what `xz -dc` makes of it"),
        (b"\x28\xb5\x2f\xfd\x04", "it is compressed with zstd: record what `zstd -dc` makes of it"),
        (b"PK\x03\x04", "it is a zip archive: record what `unzip -p` makes of it"),
        (TEXT.encode("utf-16"), "it is UTF-16: record what `iconv -f UTF-16 -t UTF-8` makes of it"),
        (TEXT.encode("utf-16-le"), "it is UTF-16: record what `iconv -f UTF-16LE -t UTF-8` makes of it"),
        (TEXT.encode("utf-16-be"), "it is UTF-16: record what `iconv -f UTF-16BE -t UTF-8` makes of it"),
    ],
    ids=["gzip", "bzip2", "xz", "zstd", "zip", "utf-16", "utf-16-le", "utf-16-be"],
)  # fmt: skip
def test_input_without_lines_is_reported(broker: Broker, data: bytes, why: str, *, skip: bool) -> None:
    with pytest.raises(FeedBroken) as raised:
        Feeding(broker, skip=skip).read(data)
    assert str(raised.value) == f"events: {why}; 0 events were recorded"


@pytest.mark.parametrize(("start", "reason"), [(b"{", "an object"), (b"[", "a list"), (b'{"a":', "a value")])
def test_json_over_several_lines_is_told_as_such(broker: Broker, start: bytes, reason: str) -> None:
    with pytest.raises(FeedBroken, match=f"EOF while parsing {reason} at column .*; an event is one line"):
        Feeding(broker).read(start + b"\n1\n}\n")


def test_a_line_of_text_is_a_string() -> None:
    assert text_event(b'say "hi"\r') == b'"say \\"hi\\""'
    assert text_event(b"\xff") == '"\ufffd"'.encode()
    assert text_event(b"") == b'""'


class Breaking:
    """A server that accepts a number of chunks and no more."""

    def __init__(self, broker: Broker, chunks: int, error: Exception) -> None:
        self._record = broker.events.append
        self._left = chunks
        self._error = error

    def __call__(self, *arguments: Any, **options: Any) -> int:
        if not self._left:
            raise self._error
        self._left -= 1
        return self._record(*arguments, **options)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Unavailable("gone"), r"^gone; 1,000 events were recorded; go on at events:1001$"),
        (
            InDoubt("lost"),
            r"^lost; 1,000 events were recorded, and up to 500 more from events:1001 on may be$",
        ),
    ],
)
def test_it_tells_where_the_server_went_away(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(broker.events, "append", Breaking(broker, 1, error))
    with pytest.raises(FeedBroken, match=said):
        Feeding(broker).read(b"1\n" * 1500)


def test_progress_is_told_in_bytes(broker: Broker) -> None:
    feeding = Feeding(broker)
    feeding.read(b"12\n34\n\n")
    assert feeding.progress == 7


def test_a_full_batch_wakes_the_scheduler(broker: Broker, client: FakeClient) -> None:
    recorder = Recorder(broker, max_size=3)
    recorder.record([b"1", b"2"])
    assert not client.exists(broker.keys.wake)
    recorder.record([b"3", b"4"])
    assert client.lrange(broker.keys.wake, 0, -1) == [b"size"]
    client.delete(broker.keys.wake)
    recorder.record([])
    recorder.record([b"5"])
    assert not client.exists(broker.keys.wake)


@pytest.fixture
def moving_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that were slept. A sleep advances the time without waiting."""
    slept: list[float] = []
    set_time(monkeypatch, pace, monotonic=lambda: 50 + sum(slept), sleep=slept.append)
    return iter([slept])


def test_a_pace_does_not_drift(moving_time: Iterator[list[float]]) -> None:
    slept = next(moving_time)
    four = Pace(4)
    assert four.at_once == 1
    for _ in range(5):
        four.wait(1)
    assert slept == [0, 0.25, 0.25, 0.25, 0.25]


@pytest.mark.parametrize(("rate", "at_once"), [(None, 1000), (0.5, 1), (40, 4), (1_000_000, 1000)])
def test_a_pace_lets_a_tenth_of_a_second_go_at_once(rate: float | None, at_once: int) -> None:
    assert Pace(rate).at_once == at_once
