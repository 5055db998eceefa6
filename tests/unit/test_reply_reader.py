"""Which stream an event names, however the streams come and go."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.errors import InDoubt, Unavailable
from microbatch.broker.state.reply_stream import ReplyStream
from microbatch.producer.pending import Pending
from microbatch.producer.reply_reader import ReplyReader
from tests.unit.steps import client_of


class Noting(Pending):
    """Notes which streams are named, and loses the first of them at that moment, as the reader may."""

    def __init__(self) -> None:
        super().__init__()
        self.reader: ReplyReader
        self.named: list[str] = []

    def sent(self, numbers: list[int], client: str) -> None:
        self.named.append(client)
        if len(self.named) == 1:
            self.reader._stream = None
            assert self.fail_all(AssertionError, client) == 0  # none names it yet
        super().sent(numbers, client)


def test_an_event_does_not_name_a_stream_that_was_lost_a_moment_ago(broker: Broker) -> None:
    """Nobody would notice that again: its future would be pending for ever."""
    pending = Noting()
    pending.reader = ReplyReader(broker, pending, lambda: None)
    future = Future[object]()
    client = pending.reader.client_for([pending.add(future)])
    assert client == pending.named[-1] != pending.named[0]
    assert pending.fail_all(AssertionError, client) == 1
    assert isinstance(future.exception(0), AssertionError)


def test_all_events_name_one_stream_as_long_as_it_is_there(broker: Broker) -> None:
    reader = ReplyReader(broker, Pending(), lambda: None)
    assert reader.client_for([1]) == reader.client_for([2])
    assert len(client_of(broker).keys(broker.keys.reply("*"))) == 1


def test_a_stream_that_may_not_exist_is_not_named(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ReplyReader(broker, Pending(), lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(broker.server, "_perform", lambda _request: _raise(InDoubt("the reply was lost")))
        with pytest.raises(Unavailable, match="no stream for replies could be made: the reply was lost") as e:
            reader.client_for([1])
    assert str(e.value) == "no stream for replies could be made: the reply was lost"
    assert len(reader.client_for([1])) == 16


def _raise(error: Exception) -> None:
    raise error


def test_a_process_that_was_frozen_finds_out_at_once_that_its_stream_is_gone(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise all that it submits in the next five seconds names the lost stream, and gets no reply."""
    stream = ReplyStream(broker.server, broker.keys, ttl_ms=60_000)
    stream.open()
    now = time.monotonic()
    blocked = []
    for later in (1, 61, 62):
        monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
        asked: Any = stream.read.asked()
        command = asked.packed.split(b"\r\n")
        blocked.append(int(command[command.index(b"BLOCK") + 2]))
    assert blocked == [5_000, 1, 5_000]
