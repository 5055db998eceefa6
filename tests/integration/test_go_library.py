"""The tests of the Go library: what one process did there, many processes do here."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from microbatch.broker.state.wake import Wake
from tests.fleet import Fleet
from tests.servers import RealServer

PROCESSOR = """
import json

def process(batch):
    note("calls", json.dumps(batch))
    return "some result"
"""


@pytest.fixture
def server(valkey_server: RealServer) -> RealServer:
    """One kind of server will do: other tests run the same path on both."""
    return valkey_server


class HandTicker:
    """A ticker that ticks when a test tells it to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due = False
        self._over = threading.Event()

    def remaining_ms(self, now_ms: int) -> int:
        with self._lock:
            if self._due:
                return 0
            self._over.set()
            return 3_600_000

    def ticked(self, now_ms: int) -> bool:
        with self._lock:
            due, self._due = self._due, False
            return due

    def tick(self, fleet: Fleet) -> None:
        """Tick, and return when the scheduler has done all work for that tick."""
        with self._lock:
            self._due = True
            self._over.clear()
        fleet.broker.wake.tell(Wake.RECONCILE)
        assert self._over.wait(10)


@pytest.fixture
def ticker() -> HandTicker:
    return HandTicker()


def calls(fleet: Fleet) -> list[list[int]]:
    return sorted(json.loads(line) for line in fleet.noted("calls"))


def test_simple_batch(server: RealServer, tmp_path: Path, ticker: HandTicker) -> None:
    results: list[str] = []
    with Fleet(server, tmp_path, PROCESSOR, max_size=10) as fleet:
        fleet.worker()
        fleet.scheduler(ticker)
        mb = fleet.batcher(result_handler=results.append)
        for event in range(3):
            mb.record_event(event)
        ticker.tick(fleet)
        fleet.finish(mb)
        assert calls(fleet) == [[0, 1, 2]]
    assert results == ["some result"]


def test_time_cycles_make_no_empty_batch(server: RealServer, tmp_path: Path, ticker: HandTicker) -> None:
    results: list[str] = []
    with Fleet(server, tmp_path, PROCESSOR, max_size=10) as fleet:
        fleet.worker()
        fleet.scheduler(ticker)
        mb = fleet.batcher(result_handler=results.append)
        for _ in range(2):
            for event in range(3):
                mb.record_event(event)
            ticker.tick(fleet)
            ticker.tick(fleet)  # nothing waits
        fleet.finish(mb)
        assert calls(fleet) == [[0, 1, 2], [0, 1, 2]]
        assert fleet.broker.stats.counters().cut_batches == 2
    assert results == ["some result"] * 2


def test_max_size(server: RealServer, tmp_path: Path, ticker: HandTicker) -> None:
    results: list[str] = []
    with Fleet(server, tmp_path, PROCESSOR, max_size=3) as fleet:
        fleet.worker()
        fleet.scheduler(ticker)
        mb = fleet.batcher(result_handler=results.append)
        for event in range(7):
            mb.record_event(event)
        fleet.finish(mb)
        assert calls(fleet) == [[0, 1, 2], [3, 4, 5], [6]]
    assert results == ["some result"] * 3
