"""A consumer that is told to stop does so at once, and leaves results that it has not begun."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microbatch.producer import MicroBatcher
from tests.conftest import MakeServer
from tests.fleet import Fleet
from tests.servers import RealServer
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("results", "wake", "events")

AT_ONCE = 2.0
"""Without a stop, a wait lasts longer. Results that are not handed back wait for ``claim_after``: 30 s."""


@pytest.fixture
def fleet(server: RealServer, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(server, tmp_path) as fleet:
        yield fleet


class Handler:
    """A result handler that waits in its first call until it may continue."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.began, self.go = threading.Event(), threading.Event()

    def run(self, result: int) -> None:
        self.began.set()
        assert self.go.wait(20)
        self.handled.append(result)


class Waiting:
    """A call of `wait_for_results` on a thread."""

    def __init__(self, mb: MicroBatcher) -> None:
        self.returned: list[bool] = []
        self._thread = threading.Thread(target=lambda: self.returned.append(mb.wait_for_results()))
        self._thread.start()

    def ends_within(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def blocked(server: RealServer, count: int = 1) -> None:
    wait_until(lambda: server.admin.info("clients")["blocked_clients"] >= count)


STOPS: dict[str, Callable[[MicroBatcher], None]] = {
    "stop_consuming": MicroBatcher.stop_consuming,
    "close": MicroBatcher.close,
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=list(STOPS))
@pytest.mark.parametrize("stopped", [False, True], ids=["waiting for results", "waiting for the end"])
def test_a_wait_ends_at_once_and_quietly(
    server: RealServer,
    fleet: Fleet,
    caplog: pytest.LogCaptureFixture,
    stop: Callable[[MicroBatcher], None],
    stopped: bool,
) -> None:
    mb = fleet.batcher()
    caplog.set_level(logging.DEBUG, "microbatch")
    if stopped:
        mb.record_event(1)  # nobody cuts it
        mb.stop()
    waiting = Waiting(mb)
    blocked(server)
    began = time.monotonic()
    stop(mb)
    assert waiting.ends_within(AT_ONCE)
    assert time.monotonic() - began < AT_ONCE
    assert waiting.returned == [False]
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert mb.wait_for_results() is False  # from now on, every wait ends


def test_a_wait_for_a_server_that_is_away_ends_at_once(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    with Fleet(server, tmp_path) as fleet:
        mb = fleet.batcher()
        waiting = Waiting(mb)
        blocked(server)
        server.kill()
        (member,) = mb._consumer._running
        wait_until(lambda: member.member._backoff._seconds > 1)  # its pauses between tries are long now
        mb.stop_consuming()
        assert waiting.ends_within(1)
        assert waiting.returned == [False]


@pytest.mark.parametrize("stop", STOPS.values(), ids=list(STOPS))
@pytest.mark.parametrize("stopped", [False, True], ids=["waits for results", "waits for the end"])
def test_what_is_not_begun_is_handled_by_another_at_once_and_by_nobody_twice(
    fleet: Fleet, server: RealServer, stop: Callable[[MicroBatcher], None], stopped: bool
) -> None:
    handler, others = Handler(), list[int]()
    leaving, staying = fleet.batcher(result_handler=handler), fleet.batcher(result_handler=others.append)
    fleet.add_results(*range(10))
    first = Waiting(leaving)
    assert handler.began.wait(20)
    if stopped:
        staying.stop()
    second = Waiting(staying)
    blocked(server)
    stopping = threading.Thread(target=stop, args=(leaving,))
    stopping.start()
    wait_until(lambda: leaving._consumer._has_quit)
    handler.go.set()
    began = time.monotonic()
    wait_until(lambda: len(others) == 9, timeout=AT_ONCE, message=lambda: f"nine results: {others}")
    assert time.monotonic() - began < AT_ONCE
    assert first.ends_within(AT_ONCE)
    assert first.returned == [False]
    stopping.join()
    staying.stop()
    assert second.ends_within(AT_ONCE)
    assert second.returned == [True]
    assert (handler.handled, others) == ([0], list(range(1, 10)))  # in order
    assert fleet.broker.unhandled.count() == 0


def test_a_result_whose_handler_raised_goes_to_another_consumer_at_close(
    fleet: Fleet, server: RealServer
) -> None:
    def fail(result: int) -> None:
        raise RuntimeError("no paper")

    others: list[int] = []
    failing, staying = fleet.batcher(result_handler=fail), fleet.batcher(result_handler=others.append)
    fleet.add_results(1, 2, 3)
    with pytest.raises(RuntimeError, match="no paper"):
        failing.wait_for_results()
    second = Waiting(staying)
    blocked(server)
    failing.close()
    wait_until(lambda: len(others) == 3, timeout=AT_ONCE)
    assert others == [1, 2, 3]
    staying.stop_consuming()
    assert second.ends_within(AT_ONCE)


def test_a_handler_may_stop_and_close_its_own_consumer(fleet: Fleet) -> None:
    handled: list[int] = []

    def show(result: int) -> None:
        handled.append(result)
        mb.close()

    mb = fleet.batcher(result_handler=show)
    fleet.add_results(1, 2, 3)
    began = time.monotonic()
    assert mb.wait_for_results() is False
    assert time.monotonic() - began < AT_ONCE
    assert handled == [1]
    assert fleet.batcher(result_handler=handled.append).wait_for_results(0.5) is False
    assert handled == [1, 2, 3]


@pytest.mark.parametrize("count", [2, 8])
def test_threads_that_wait_on_one_batcher_share_the_results(
    fleet: Fleet, server: RealServer, count: int
) -> None:
    handled: list[int] = []
    together = threading.Barrier(count, timeout=20)
    met = threading.local()

    def show(result: int) -> None:
        if not hasattr(met, "others"):
            met.others = together.wait()  # no thread handles a second result before each has its first
        time.sleep(0.001)
        handled.append(result)

    mb = fleet.batcher(result_handler=show)
    threads = [Waiting(mb) for _ in range(count)]
    wait_until(lambda: len(mb._consumer._running) == count)
    blocked(server, count)
    for value in range(40):
        fleet.add_results(value)
        time.sleep(0.002)
    wait_until(lambda: len(handled) >= 40)
    mb.stop()
    assert all(thread.ends_within(10) for thread in threads)
    assert [thread.returned for thread in threads] == [[True]] * count
    assert Counter(handled) == Counter(range(40))
    mb.close()
    group: Any = fleet.broker.server.client.xinfo_consumers(fleet.broker.keys.results, "handlers")
    assert group == []
