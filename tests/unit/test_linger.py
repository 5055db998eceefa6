"""Lingering events: they are sent together and in order, never lost silently, and never sent twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from microbatch.broker.errors import (
    BatcherFull,
    ConfigError,
    EncodeError,
    InDoubt,
    Refused,
    Stopped,
    Unavailable,
)
from microbatch.broker.transport import clock
from microbatch.broker.wire.event import event_recorded_at_ms
from microbatch.producer import MicroBatcher, linger
from tests.doubles import set_time
from tests.times import hurry
from tests.unit.conftest import MakeBroker
from tests.unit.lingering import EVENTS, MakeBatcher, waiting
from tests.unit.steps import FakeClient
from tests.waiting import wait_until

WAKE = "mb:{letters}:wake"


@pytest.fixture
def batcher(make_batcher: MakeBatcher) -> MicroBatcher:
    """A batcher that sends nothing on its own before the test is over."""
    return make_batcher()


Call = Callable[..., int]


def on_record(batcher: MicroBatcher, monkeypatch: pytest.MonkeyPatch, do: Callable[[Call, Any], int]) -> None:
    """Call ``do`` instead of `Events.append`. It gets the original function and the events."""
    recorder = batcher._recorder
    append = recorder._append
    monkeypatch.setattr(
        recorder,
        "_append",
        lambda bodies, *more, **options: do(lambda bodies: append(bodies, *more, **options), bodies),
    )


@pytest.mark.parametrize("wrong", [-1, 60_001, 2.5, "5", True])
def test_a_wrong_time_is_refused(make_batcher: MakeBatcher, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"^linger: whole milliseconds, up to 60,000"):
        make_batcher(wrong)


@pytest.mark.parametrize("off", [None, 0])
def test_without_linger_an_event_is_recorded_at_once(
    make_batcher: MakeBatcher, client: FakeClient, off: Any
) -> None:
    batcher = make_batcher(off)
    batcher.record_event("a")
    assert waiting(client) == ["a"]
    batcher.flush()


def test_events_are_sent_together_when_the_time_is_over(
    make_batcher: MakeBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make_batcher(50)
    sizes: list[int] = []

    def record(record: Call, raws: Any) -> int:
        sizes.append(len(raws))
        return record(raws)

    on_record(batcher, monkeypatch, record)
    for event in range(5):
        batcher.record_event(event)
    assert waiting(client) == []
    wait_until(lambda: waiting(client) == [0, 1, 2, 3, 4])
    batcher.record_event(5)
    wait_until(lambda: waiting(client) == [0, 1, 2, 3, 4, 5])
    assert sizes == [5, 1]


@pytest.mark.parametrize(
    ("events", "sent"), [(list(range(1_500)), 1_000), (["x" * 600_000] * 3, 2)], ids=["many", "large"]
)
def test_a_full_chunk_is_sent_at_once(
    batcher: MicroBatcher, client: FakeClient, events: list[object], sent: int
) -> None:
    for event in events:
        batcher.record_event(event)
    wait_until(lambda: client.llen(EVENTS) == sent)
    batcher.flush()
    assert waiting(client) == events


def test_flush_returns_when_all_is_there(batcher: MicroBatcher, client: FakeClient) -> None:
    batcher.flush()
    for event in range(3):
        batcher.record_event(event)
        assert client.llen(EVENTS) == event
        batcher.flush()
        assert client.llen(EVENTS) == event + 1


def test_an_event_says_when_it_was_recorded(
    batcher: MicroBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment_ms in (1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_030):
        now_ns = partial(int, moment_ms * 1_000_000)
        set_time(monkeypatch, clock, time_ns=now_ns, monotonic=time.monotonic)
        batcher.record_event(1)
    batcher.flush()
    stamps = [event_recorded_at_ms(raw) for raw in client.lrange(EVENTS, 0, -1)]
    assert stamps == [1_700_000_000_000, 1_700_000_000_001, 1_700_000_000_030]


def test_what_goes_out_at_once_goes_after_what_lingers(make_batcher: MakeBatcher, client: FakeClient) -> None:
    batcher = make_batcher(dedupe_window=60)
    batcher.record_event(0)
    batcher.record_event(1, id="one")
    batcher.record_event(2)
    assert batcher.record_events([3, 4]) == 2
    batcher.record_event(5)
    assert waiting(client) == [0, 1, 2, 3, 4]


def test_errors_that_are_known_at_the_call_are_raised_there(
    make_batcher: MakeBatcher, client: FakeClient
) -> None:
    batcher = make_batcher(max_event_bytes=10)
    with pytest.raises(EncodeError, match="object"):
        batcher.record_event(object())
    with pytest.raises(EncodeError, match="max_event_bytes allows 10"):
        batcher.record_event("x" * 10)
    batcher.record_event("a")
    batcher.stop()
    with pytest.raises(Stopped):
        batcher.record_event("b")
    assert waiting(client) == ["a"]


def test_a_full_batch_wakes_the_scheduler(make_batcher: MakeBatcher, client: FakeClient) -> None:
    batcher = make_batcher(1, max_size=3)
    for event in range(3):
        batcher.record_event(event)
    wait_until(lambda: client.lrange(WAKE, 0, -1) == [b"size"])


def test_a_stop_sends_all_before_it_has_it_cut(batcher: MicroBatcher, client: FakeClient) -> None:
    batcher.record_event("a")
    batcher.stop()
    assert waiting(client) == ["a"]
    assert client.lrange(WAKE, 0, -1) == [b"flush"]
    batcher.stop()


def test_closing_sends_what_is_left(batcher: MicroBatcher, client: FakeClient) -> None:
    batcher.record_event("a")
    batcher.close()
    assert waiting(client) == ["a"]
    batcher.close()
    batcher.flush()
    with pytest.raises(Stopped):
        batcher.record_event("b")


def test_what_the_server_refuses_stays_until_it_is_taken(batcher: MicroBatcher, client: FakeClient) -> None:
    client.set(EVENTS, "a string")
    batcher.record_event("a")
    for _ in range(2):
        with pytest.raises(Refused, match=r"WRONGTYPE.* \(events that linger here: 1\)"):
            batcher.flush()
    with pytest.raises(Refused):
        batcher.record_events(["c"])
    with pytest.raises(Refused):
        batcher.stop()
    client.delete(EVENTS)
    batcher.stop()
    assert waiting(client) == ["a"]


def test_sending_is_tried_again_without_a_call(
    make_batcher: MakeBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make_batcher(1)
    answers: Iterator[Exception | None] = iter([Unavailable("gone"), Refused("full"), None])

    def record(record: Call, raws: Any) -> int:
        if error := next(answers):
            raise error
        return record(raws)

    on_record(batcher, monkeypatch, record)
    batcher.record_event("a")
    wait_until(lambda: waiting(client) == ["a"])


def test_a_log_that_raises_does_not_end_the_sending(
    make_batcher: MakeBatcher,
    client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_record: logging.LogRecord) -> bool:
        raise ZeroDivisionError("the program's own filter")

    hurry(monkeypatch, stumble_seconds=0.01)
    logger = logging.getLogger("microbatch.broker.transport.backoff")
    batcher = make_batcher(1)
    logger.addFilter(fail)
    try:
        client.set(EVENTS, "a string")
        batcher.record_event("a")
        wait_until(lambda: "the program's own filter" in capsys.readouterr().err)
    finally:
        logger.removeFilter(fail)
    client.delete(EVENTS)
    batcher.flush()
    assert waiting(client) == ["a"]


def test_a_full_buffer_is_told_when_the_server_takes_nothing(
    batcher: MicroBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linger, "MOST_EVENTS", 4)
    client.set(EVENTS, "a string")
    batcher.record_event(0)
    with pytest.raises(Refused):
        batcher.flush()  # so this one is being sent
    for event in (1, 2, 3):
        batcher.record_event(event)
    for _ in range(3):
        with pytest.raises(Refused, match=r"WRONGTYPE.*\(events that linger here: 4\)"):
            batcher.record_event(4)
    assert batcher._buffer is not None
    assert len(batcher._buffer._waiting) == 4  # the calls that raised have left nothing behind
    client.delete(EVENTS)
    batcher.flush()
    assert waiting(client) == [0, 1, 2, 3]


@pytest.mark.parametrize("bound", ["MOST_EVENTS", "MOST_BYTES"])
def test_a_full_buffer_waits_for_a_slow_server(
    batcher: MicroBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(linger, bound, 5 if bound == "MOST_EVENTS" else 5 * len(b"1" * 14))
    go_on, most = threading.Event(), []

    def record(record: Call, raws: Any) -> int:
        assert go_on.wait(10)
        assert batcher._buffer is not None
        most.append(len(batcher._buffer._waiting))
        return record(raws)

    on_record(batcher, monkeypatch, record)
    taken = []

    def produce() -> None:
        for event in range(10, 60):
            batcher.record_event(event)
            taken.append(event)

    producing = threading.Thread(target=produce)
    producing.start()
    wait_until(lambda: len(taken) == 5)
    producing.join(0.05)
    assert len(taken) == 5
    go_on.set()
    producing.join()
    batcher.flush()
    assert waiting(client) == list(range(10, 60))
    assert max(most) <= 5


def test_what_is_in_doubt_is_told_once_and_not_sent_again(
    batcher: MicroBatcher,
    client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: Iterator[Exception] = iter([InDoubt("lost"), RuntimeError("a bug")])

    def record(record: Call, raws: Any) -> int:
        waiting = record(raws)
        if error := next(errors, None):
            raise error
        return waiting

    on_record(batcher, monkeypatch, record)
    for event in range(3):
        batcher.record_event(event)
    with pytest.raises(InDoubt, match=r"^3 events may or may not have been recorded: lost$"):
        batcher.flush()
    batcher.flush()
    batcher.record_event(3)
    batcher.record_events([4])  # its own events are not in doubt
    with pytest.raises(InDoubt, match=r"^1 event may .*: a bug$"):
        batcher.stop()
    assert client.lrange(WAKE, 0, -1) == [b"flush"]
    assert waiting(client) == [0, 1, 2, 3, 4]
    assert "letters: 3 events may or may not have been recorded: lost" in caplog.messages


def test_where_there_is_room_for_some_they_are_recorded(
    make_batcher: MakeBatcher, make_broker: MakeBroker, client: FakeClient
) -> None:
    batcher = make_batcher(max_waiting=20)
    make_broker().events.record([b"1x"] * 13)
    for event in range(12):
        batcher.record_event(event)
    with pytest.raises(BatcherFull, match=r"max_waiting.*\(events that linger here: 5\)"):
        batcher.flush()
    client.ltrim(EVENTS, 13, -1)
    batcher.flush()
    assert waiting(client) == list(range(12))


def test_what_can_not_be_sent_before_the_end_is_told(
    make_batcher: MakeBatcher,
    client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hurry(monkeypatch, close_seconds=0.2)
    batcher = make_batcher()
    client.set(EVENTS, "a string")
    for event in range(3):
        batcher.record_event(event)
    batcher.close()
    lost = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage()[:37] for record in lost] == ["letters: lost 3 events that lingered:"]
    with pytest.raises(Unavailable, match=r"closed before all was sent \(events that linger here: 3\)"):
        batcher.flush()


def test_while_it_closes_it_is_tried_again_and_again(
    make_batcher: MakeBatcher, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, close_seconds=3)
    batcher = make_batcher()
    errors: Iterator[Exception] = iter([Unavailable("gone")] * 10)  # otherwise, they take half a minute

    def record(record: Call, raws: Any) -> int:
        if error := next(errors, None):
            raise error
        return record(raws)

    on_record(batcher, monkeypatch, record)
    for event in range(1_500):
        batcher.record_event(event)
    batcher.close()
    assert waiting(client) == list(range(1_500))
