"""Lingering events while signals and threads interfere at any moment."""

from __future__ import annotations

import signal
import threading

import pytest

from microbatch.broker.errors import Stopped
from microbatch.producer import MicroBatcher
from tests.signals import on_alarm
from tests.unit.lingering import EVENTS, MakeBatcher, waiting
from tests.unit.steps import FakeClient
from tests.waiting import wait_until


def test_a_signal_may_stop_it_at_any_moment(make_batcher: MakeBatcher, client: FakeClient) -> None:
    batcher = make_batcher(1)
    stopped = []

    def stop() -> None:
        batcher.stop()
        stopped.append(client.llen(EVENTS))

    def record_until_stopped() -> int:
        taken = 0
        while True:
            try:
                batcher.record_event(taken)
            except Stopped:
                return taken
            taken += 1

    with on_alarm(stop):
        for moment in range(30):
            client.delete(EVENTS)
            batcher = make_batcher(1)
            signal.setitimer(signal.ITIMER_REAL, 0.002 + moment / 20_000)
            taken = record_until_stopped()
            # What was recorded before the stop is there. The call that it interrupted continues after it.
            assert taken - 1 <= stopped[-1] <= taken
            batcher.close()
            assert waiting(client) == list(range(taken))


def record_on(batcher: MicroBatcher, taken: list[int], seconds: float) -> None:
    """Record 0, 1, 2 and so on until an error is raised. A signal arrives after ``seconds``."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while True:
        batcher.record_event(len(taken))
        taken.append(len(taken))


def test_a_signal_may_close_it_at_any_moment(make_batcher: MakeBatcher, client: FakeClient) -> None:
    def close() -> None:
        make_batcher.made[-1].close()

    with on_alarm(close):
        for moment in range(30):
            client.delete(EVENTS)
            taken: list[int] = []
            with pytest.raises(Stopped):
                record_on(make_batcher(1), taken, 0.002 + moment / 20_000)
            # If there was no thread yet, the event of the interrupted call is sent after the handler.
            wait_until(lambda taken=taken: waiting(client) == taken)  # type: ignore[misc]


class Interrupt(Exception):
    """An exception like the one from Ctrl-C."""


def test_an_interrupt_at_any_moment_holds_up_nothing(make_batcher: MakeBatcher, client: FakeClient) -> None:
    def interrupt() -> None:
        raise Interrupt

    with on_alarm(interrupt):
        for moment in range(100):
            client.delete(EVENTS)
            batcher = make_batcher(1)
            batcher.record_event(0)
            taken = [0]
            with pytest.raises(Interrupt):
                record_on(batcher, taken, 0.002 + moment / 20_000)
            # Nobody flushes: the thread must send on its own. The call may have accepted its event.
            wait_until(lambda taken=taken: client.llen(EVENTS) >= len(taken))  # type: ignore[misc]
            batcher.close()
            assert waiting(client) in (taken, [*taken, len(taken)])


def test_many_threads_may_record_and_flush(make_batcher: MakeBatcher, client: FakeClient) -> None:
    batcher = make_batcher(1)

    def record(first: int) -> None:
        for event in range(first, first + 1_000):
            batcher.record_event(event)
            if event % 100 == 99:
                batcher.flush()
                assert event in waiting(client)

    threads = [threading.Thread(target=record, args=(first,)) for first in range(0, 4_000, 1_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waiting(client)) == list(range(4_000))
    for first in range(0, 4_000, 1_000):
        own = [event for event in waiting(client) if first <= event < first + 1_000]
        assert own == sorted(own)
