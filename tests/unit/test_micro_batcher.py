"""MicroBatcher: what is sent and when, and what is refused."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import hiredis
import pytest
from pydantic import BaseModel

from microbatch.broker.errors import EncodeError, InDoubt, Refused, Stopped, Unavailable
from microbatch.broker.state.flushes import Flushes
from microbatch.broker.state.wake import Wake
from microbatch.broker.transport import clock
from microbatch.broker.transport.request import Request
from microbatch.broker.transport.verb import verb
from microbatch.broker.wire.event import event_recorded_at_ms
from microbatch.producer import MicroBatcher, start, starting
from tests.doubles import set_time
from tests.unit.conftest import MakeBroker
from tests.unit.steps import FakeClient, values_of

EVENTS = "mb:{letters}:events"
RECORD = [b"RPUSH", EVENTS.encode()]
WAKE = "mb:{letters}:wake"


class Wire:
    """The commands that go over a client's connection, one by one, as the server reads them."""

    def __init__(self, client: FakeClient) -> None:
        self.sent: list[list[bytes]] = []
        connection = client.connection_pool.get_connection()  # the one connection that all calls use in turn
        self._send = connection.send_packed_command
        connection.send_packed_command = self._note
        client.connection_pool.release(connection)

    def _note(self, packed: list[bytes], **options: Any) -> None:
        reader = hiredis.Reader()
        for piece in packed:
            reader.feed(piece)
        while command := reader.gets():
            self.sent.append(command)
        self._send(packed, **options)

    def chunks(self) -> list[int]:
        """How many events went in each command."""
        return [len(command) - 2 for command in self.sent if command[:2] == RECORD]


@pytest.fixture
def wire(client: FakeClient) -> Wire:
    return Wire(client)


@pytest.fixture
def batcher(wire: Wire, make_broker: MakeBroker) -> MicroBatcher:
    broker = make_broker(max_size=10)
    return MicroBatcher(broker.config, broker=broker)


def waiting(client: FakeClient) -> list[Any]:
    return values_of(client.lrange(EVENTS, 0, -1))


def words(client: FakeClient) -> list[bytes]:
    """The words that the scheduler was told since the last call."""
    found: list[bytes] = client.lrange(WAKE, 0, -1)
    client.delete(WAKE)
    return found


def test_an_event_is_on_the_server_when_it_is_recorded(
    batcher: MicroBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_time(monkeypatch, clock, time_ns=lambda: 1_700_000_000_123_999_999, monotonic=time.monotonic)
    for event in ("a", None, {"b": [1]}):
        batcher.record_event(event)
    assert waiting(client) == ["a", None, {"b": [1]}]
    assert event_recorded_at_ms(client.lindex(EVENTS, 0)) == 1_700_000_000_123


def test_recording_an_event_takes_one_command(batcher: MicroBatcher, wire: Wire) -> None:
    batcher.record_event("a")
    assert [command[:2] for command in wire.sent] == [RECORD]


def test_each_multiple_of_max_size_wakes_the_scheduler(batcher: MicroBatcher, client: FakeClient) -> None:
    woken = []
    for number in range(1, 32):
        batcher.record_event(number)
        if words(client) == [b"size"]:
            woken.append(number)
    assert woken == [10, 20, 30]


@pytest.mark.parametrize(
    ("before", "more", "wakes"),
    [(0, 9, False), (0, 10, True), (9, 1, True), (8, 25, True), (10, 9, False), (11, 8, False)],
)
def test_many_events_wake_it_when_they_cross_one(
    batcher: MicroBatcher, client: FakeClient, before: int, more: int, wakes: bool
) -> None:
    batcher.record_events(range(before))
    words(client)
    assert batcher.record_events(range(more)) == more
    assert words(client) == ([b"size"] if wakes else [])


@pytest.mark.parametrize(
    ("count", "chunks"),
    [(0, []), (1, [1]), (1_000, [1_000]), (1_001, [1_000, 1]), (2_500, [1_000, 1_000, 500])],
)
def test_many_events_take_a_command_per_chunk(
    batcher: MicroBatcher, client: FakeClient, wire: Wire, count: int, chunks: list[int]
) -> None:
    assert batcher.record_events(iter(range(count))) == count
    assert wire.chunks() == chunks
    assert waiting(client) == list(range(count))


def test_large_events_make_smaller_chunks(batcher: MicroBatcher, wire: Wire) -> None:
    batcher.record_events(["x" * 400_000] * 7)
    assert wire.chunks() == [3, 3, 1]


def test_no_more_is_taken_than_a_chunk_before_it_is_recorded(
    batcher: MicroBatcher, client: FakeClient
) -> None:
    taken: list[int] = []

    def events() -> Iterator[str]:
        for number, size in enumerate([1] * 1_000 + [600_000] * 2 + [1]):
            taken.append(len(waiting(client)))
            yield str(number % 10) * size

    batcher.record_events(events())
    assert taken == [0] * 1_000 + [1_000] * 2 + [1_002]


@pytest.mark.parametrize("error", [ValueError("mine"), RecursionError("mine"), KeyboardInterrupt()])
def test_an_error_of_the_events_iterator_is_raised_unchanged(
    batcher: MicroBatcher, client: FakeClient, error: BaseException
) -> None:
    def events() -> Iterator[int]:
        yield from range(1_500)
        raise error

    with pytest.raises(type(error)) as caught:
        batcher.record_events(events())
    assert caught.value is error
    assert waiting(client) == list(range(1_000))


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_a_chunk_that_is_refused_is_the_last(
    batcher: MicroBatcher, client: FakeClient, wire: Wire, kind: Callable[[list[object]], Iterable[object]]
) -> None:
    client.set(EVENTS, "a string")
    for events in (range(3_000), [*range(1_500), Opaque()]):
        with pytest.raises(Refused, match="WRONGTYPE"):
            batcher.record_events(kind(list(events)))
    assert wire.chunks() == [1_000, 1_000]


@pytest.mark.parametrize("kind", [list, tuple, iter])
@pytest.mark.parametrize("settings", [{}, {"max_waiting": 10_000}], ids=["plain", "guarded"])
def test_many_events_keep_their_order(
    make_broker: MakeBroker,
    client: FakeClient,
    settings: dict[str, Any],
    kind: Callable[[list[int]], Iterable[int]],
) -> None:
    broker = make_broker(max_size=1_500, **settings)
    batcher = MicroBatcher(broker.config, broker=broker)
    assert batcher.record_events(kind(list(range(2_400)))) == 2_400
    assert waiting(client) == list(range(2_400))
    assert words(client) == [b"size"]


def test_an_unread_reply_is_not_taken_for_that_of_another_call(
    batcher: MicroBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = client.connection_pool.get_connection()
    client.connection_pool.release(connection)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(connection, "read_response", interrupt)
        with pytest.raises(KeyboardInterrupt):
            batcher.record_event("a")
    assert not connection.is_connected
    batcher.record_event("b")
    assert waiting(client) == ["a", "b"]


class Opaque:
    pass


def test_an_event_without_json_is_not_sent(batcher: MicroBatcher, wire: Wire) -> None:
    with pytest.raises(EncodeError, match=r"the event cannot be encoded as JSON: .*\.Opaque: "):
        batcher.record_event(Opaque())
    assert wire.sent == []


def test_an_event_without_json_ends_the_recording_of_many(batcher: MicroBatcher, client: FakeClient) -> None:
    with pytest.raises(EncodeError):
        batcher.record_events([*range(1_500), Opaque(), 1_501])
    assert waiting(client) == list(range(1_000))
    batcher.record_event("next")


def test_what_the_server_refuses_is_told(batcher: MicroBatcher, client: FakeClient) -> None:
    client.set(EVENTS, "a string")
    with pytest.raises(Refused, match="WRONGTYPE"):
        batcher.record_event("a")
    with pytest.raises(Refused, match="WRONGTYPE"):
        batcher.record_events(["a"])


def test_after_a_stop_nothing_is_recorded(batcher: MicroBatcher, client: FakeClient) -> None:
    batcher.record_event("a")
    batcher.stop()
    for record in (batcher.record_event, lambda event: batcher.record_events([event])):
        with pytest.raises(Stopped, match="batcher 'letters' was stopped"):
            record("b")
    assert waiting(client) == ["a"]
    assert batcher.record_events([]) == 0


def test_a_stop_during_many_is_reported(batcher: MicroBatcher, client: FakeClient) -> None:
    def events() -> Iterator[int]:
        yield from range(1_200)
        batcher.stop()
        yield 1_200

    with pytest.raises(Stopped, match="201 events were not recorded"):
        batcher.record_events(events())
    assert len(waiting(client)) == 1_000


def test_a_stop_has_all_that_waits_cut_and_a_second_does_nothing(
    batcher: MicroBatcher, client: FakeClient
) -> None:
    batcher.stop()
    assert words(client) == [b"flush"]
    batcher.stop()
    assert words(client) == []


def test_a_stop_that_failed_can_be_repeated(batcher: MicroBatcher, client: FakeClient) -> None:
    flushes = EVENTS.replace("events", "flushes")
    client.set(flushes, "a string")
    with pytest.raises(Refused):
        batcher.stop()
    with pytest.raises(Stopped):
        batcher.record_event("a")
    client.delete(flushes)
    batcher.stop()
    assert words(client) == [b"flush"]


def test_after_a_stop_that_failed_the_wait_for_results_asks_the_server_itself(
    batcher: MicroBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        fail_to_stop(batcher, away, Unavailable("no server answers"))
        with pytest.raises(Unavailable):
            batcher.stop()
    assert batcher.wait_for_results(20)
    assert words(client) == [b"flush"]


def test_leaving_the_block_stops_and_closes(batcher: MicroBatcher, client: FakeClient) -> None:
    with batcher as same:
        assert same is batcher
        batcher.record_event("a")
    assert words(client) == [b"flush"]
    with pytest.raises(Stopped):
        batcher.record_event("b")


def test_a_closed_batcher_records_nothing(batcher: MicroBatcher) -> None:
    batcher.close()
    batcher.close()
    with pytest.raises(Stopped):
        batcher.record_event("a")


def test_the_first_events_of_a_process_that_starts_are_checked(
    monkeypatch: pytest.MonkeyPatch, make_broker: MakeBroker
) -> None:
    broker = make_broker()
    checked = []
    monkeypatch.setattr(starting, "Broker", lambda _config: broker)
    monkeypatch.setattr(broker.server, "check_version", lambda: checked.append(True))
    assert start(broker.config).config is broker.config
    assert checked == [True]


@pytest.mark.parametrize("ours", [Unavailable("away"), InDoubt("lost")])
@pytest.mark.parametrize(
    "theirs", [InDoubt("theirs"), ValueError("theirs"), KeyboardInterrupt(), SystemExit(3)]
)
def test_the_error_of_a_block_comes_out_and_ours_is_logged(
    batcher: MicroBatcher,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ours: Exception,
    theirs: BaseException,
) -> None:
    """A caller that takes our error for its call's would repeat a call that has recorded its event."""
    closed = closings(batcher, monkeypatch)
    fail_to_stop(batcher, monkeypatch, ours)
    with pytest.raises(type(theirs)) as raised, batcher:
        raise theirs
    assert raised.value is theirs
    assert f"letters: it could not be stopped: {ours}" in caplog.text
    assert closed == [True]


def test_where_a_block_raises_nothing_ours_comes_out(
    batcher: MicroBatcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed = closings(batcher, monkeypatch)
    fail_to_stop(batcher, monkeypatch, Unavailable("away"))
    with pytest.raises(Unavailable, match="away"), batcher:
        pass
    assert caplog.text == ""
    assert closed == [True]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_of_the_stop_comes_out_whatever_the_block_raised(
    batcher: MicroBatcher, monkeypatch: pytest.MonkeyPatch, interrupt: BaseException
) -> None:
    closed = closings(batcher, monkeypatch)
    fail_to_stop(batcher, monkeypatch, interrupt)
    with pytest.raises(type(interrupt)) as raised, batcher:
        raise ValueError
    assert raised.value is interrupt
    assert isinstance(interrupt.__context__, ValueError)
    assert closed == [True]


def fail_to_stop(batcher: MicroBatcher, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(_flushes: Flushes, _word: Wake) -> Request[int]:
        raise error

    monkeypatch.setattr(Flushes, "ask", verb(fail))


def closings(batcher: MicroBatcher, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """True for each time that the batcher's connections were closed."""
    closed: list[bool] = []
    monkeypatch.setattr(batcher._broker, "close", lambda **_options: closed.append(True))
    return closed


class Model(BaseModel):
    letter: str = "a"


@pytest.mark.parametrize(
    "event", ["abc", b"abc", bytearray(b"abc"), memoryview(b"abc"), {"a": 1}, Counter("abc"), Model(), ""]
)
def test_one_event_is_not_taken_for_many(batcher: MicroBatcher, client: FakeClient, event: Any) -> None:
    with pytest.raises(EncodeError, match=rf"was given one {type(event).__name__}: put it in a list"):
        batcher.record_events(event)
    assert waiting(client) == []


@pytest.mark.parametrize(
    "events", [["abc"], ("abc",), {"abc"}, iter(["abc"]), {"abc": 1}.keys(), deque(["abc"])]
)
def test_all_that_holds_events_is_taken(batcher: MicroBatcher, client: FakeClient, events: Any) -> None:
    assert batcher.record_events(events) == 1
    assert waiting(client) == ["abc"]
