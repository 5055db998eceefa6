"""Standbys: one takes over when the active scheduler dies, stalls or leaves, and nothing is cut twice."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from microbatch.broker.state.wake import Wake
from microbatch.producer import BatchInfo
from tests.fleet import ECHO, Fleet, Recorder
from tests.processes import Process
from tests.servers import RealServer
from tests.waiting import wait_until

LATE_MS = 100  # how long after its tick a batch may be cut on a busy machine


class Schedulers:
    """Scheduler processes. One of them is active."""

    def __init__(self, fleet: Fleet, count: int, **settings: float) -> None:
        self._fleet = fleet
        self._by_pid: dict[int, Process] = {}
        for _ in range(count):
            process = fleet.scheduler_process(**settings)
            self._by_pid[process.pid] = process
        self.wait_for_active()
        wait_until(lambda: fleet.broker.server.do("ZCARD", fleet.broker.keys.schedulers) == count)

    def wait_for_active(self, but: Process | None = None, timeout: float = 60) -> Process:
        """Wait until a scheduler other than ``but`` is active, and return it."""

        def active() -> Process | None:
            process = self._by_pid.get(self._fleet.active_pid() or 0)
            return process if process is not but else None

        process = wait_until(active, timeout, "another active scheduler")
        assert process is not None
        return process


def off_grid(infos: list[BatchInfo], frequency: int) -> list[int]:
    """How many ms after its tick each batch was cut."""
    return [round(info.cut_at.timestamp() * 1000) % frequency for info in infos]


@pytest.mark.alone
def test_a_standby_takes_over_from_one_that_was_killed(server: RealServer, tmp_path: Path) -> None:
    infos: list[BatchInfo] = []
    events: list[int] = []

    def handle(result: list[int], info: BatchInfo) -> None:
        events.extend(result)
        infos.append(info)

    with Fleet(server, tmp_path, ECHO, frequency=400) as fleet:
        fleet.worker()
        schedulers = Schedulers(fleet, 2)
        mb = fleet.batcher(result_handler=handle)
        active = schedulers.wait_for_active()
        mb.record_event(0)
        fleet.wait_for_cut(1)
        active.kill()
        killed = time.monotonic()
        mb.record_event(1)
        schedulers.wait_for_active(but=active)
        assert time.monotonic() - killed < 3
        fleet.wait_for_cut(2)
        fleet.finish(mb)
    assert events == [0, 1]
    assert [info.trigger for info in infos] == ["tick", "tick"]
    assert max(off_grid(infos, 400)) < LATE_MS


def test_one_that_is_told_to_end_hands_over_at_once(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, lease_ttl=120) as fleet:
        fleet.worker()
        schedulers = Schedulers(fleet, 2)
        active = schedulers.wait_for_active()
        active.terminate()
        # Well before the lease would run out: at least two thirds of it are left.
        schedulers.wait_for_active(but=active, timeout=30)
        assert active.wait() == 0
        assert fleet.broker.server.do("ZCARD", fleet.broker.keys.schedulers) == 1
        mb = fleet.batcher()
        mb.record_event(1)
        fleet.finish(mb)


def test_a_stopped_scheduler_that_is_told_to_end_ends_when_it_continues(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    """The signal may then be delivered to any of its threads."""
    with Fleet(valkey_server, tmp_path) as fleet:
        for _ in range(3):
            active = Schedulers(fleet, 1).wait_for_active()
            active.send(signal.SIGSTOP)
            active.terminate()
            active.send(signal.SIGCONT)
            assert active.wait() == 0


def test_one_that_was_stalled_cuts_nothing_more(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    with Fleet(server, tmp_path, ECHO, frequency=20, max_size=40, lease_ttl=0.5) as fleet:
        fleet.worker()
        schedulers = Schedulers(fleet, 2)
        mb = fleet.batcher(result_handler=events.extend)
        recorder = Recorder(mb)
        recorder.start()
        for _ in range(3):
            active = schedulers.wait_for_active()
            seen = len(active.lines)
            active.send(signal.SIGSTOP)
            schedulers.wait_for_active(but=active)
            active.send(signal.SIGCONT)
            active.wait_for_line("no longer active, standing by", since=seen)
        recorder.finish()
        fleet.finish(mb)
        assert fleet.broker.stats.counters().cut_events == recorder.count
    assert sorted(events) == list(range(recorder.count))


@pytest.mark.alone
def test_ticks_lie_on_a_grid(server: RealServer, tmp_path: Path) -> None:
    frequency = 400
    infos: list[BatchInfo] = []

    def handle(result: list[int], info: BatchInfo) -> None:
        infos.append(info)

    with Fleet(server, tmp_path, ECHO, frequency=frequency) as fleet:
        fleet.worker()
        mb = fleet.batcher(result_handler=handle)
        # Begin in the middle of a cycle.
        wait_until(lambda: frequency * 0.4 < fleet.broker.clock.now_ms() % frequency < frequency * 0.6)
        fleet.scheduler()
        for cut in range(1, 4):
            mb.record_event(cut)
            fleet.wait_for_cut(cut)
        fleet.finish(mb)
    assert [info.trigger for info in infos] == ["tick"] * 3
    assert max(off_grid(infos, frequency)) < LATE_MS


def test_a_scheduler_that_ends_before_it_is_woken_leaves_no_word(
    valkey_server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Fleet(valkey_server, tmp_path) as fleet, fleet.scheduling() as scheduler:
        wait_until(lambda: scheduler.active)
        wake, ended = scheduler.broker.wake.tell, threading.Event()

        def wake_late(word: Wake) -> None:
            ended.wait(1)
            wake(word)

        monkeypatch.setattr(scheduler.broker.wake, "tell", wake_late)
        monkeypatch.setattr(scheduler._listener, "close", ended.set)
        scheduler.stop()
