"""A server whose clock jumps: what happens to stored times. One server's clock is really set."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from microbatch.broker.inspect.audit import Audit
from tests.conftest import MakeServer
from tests.fleet import ECHO, HASTY, Fleet, Recorder
from tests.integration.test_server_faults import SLOW, Handled
from tests.programs import missing, need
from tests.servers import RealServer
from tests.unit.steps import check_account
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("wake")

HOUR_MS = 3_600_000

# By the server's clock, the lease would last an hour. By its own clock, a standby waits four leases of 0.8 s.
# The rest is for a machine that is busy with other tests.
TAKEN_OVER_SECONDS = 4 * 0.8 + 20


def jump(fleet: Fleet, server: RealServer, by_ms: int) -> None:
    """Change stored times as a jump of the server's clock would."""
    keys = fleet.broker.keys
    for batch_id in fleet.broker.ledger.in_flight():
        server.admin.zincrby(keys.inflight, -by_ms, batch_id)
    left = server.admin.pttl(keys.lease) - by_ms
    if left > 0:
        server.admin.pexpire(keys.lease, left)
    else:
        server.admin.delete(keys.lease)


@pytest.mark.parametrize("by_ms", [HOUR_MS, -HOUR_MS], ids=["ahead", "back"])
def test_the_clock_jumps_and_the_active_scheduler_dies(
    server: RealServer, tmp_path: Path, by_ms: int
) -> None:
    handled = Handled()
    with Fleet(server, tmp_path, SLOW, lease_ttl=0.8, max_size=2) as fleet:
        fleet.worker()
        fleet.worker()
        active = fleet.scheduler_process()
        wait_until(fleet.active_pid)
        standby = fleet.scheduler_process()
        wait_until(lambda: server.admin.zcard(fleet.broker.keys.schedulers) == 2)
        mb = fleet.batcher(result_handler=handled)
        mb.record_events([1, 2])
        fleet.wait_for_note("runs")
        active.send(signal.SIGSTOP)
        jump(fleet, server, by_ms)
        mb.record_events([3, 4])
        wait_until(lambda: fleet.active_pid() == standby.pid, TAKEN_OVER_SECONDS)
        fleet.wait_for_cut(4)
        active.send(signal.SIGCONT)
        active.wait_for_line("no longer active, standing by")
        fleet.let("go")
        fleet.finish(mb)
        counters = fleet.broker.stats.counters()
        assert (counters.cut_batches, counters.done_batches) == (2, 2)
        assert server.admin.xinfo_stream(fleet.broker.keys.results)["entries-added"] == 2
        assert list(Audit(fleet.broker).findings()) == []
    assert handled.events == [1, 2, 3, 4]


@pytest.mark.alone
def test_a_live_scheduler_keeps_its_lease_when_the_clock_is_set_back(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    with Fleet(valkey_server, tmp_path, lease_ttl=0.5) as fleet:
        active = fleet.scheduler_process()
        wait_until(fleet.active_pid)
        standby = fleet.scheduler_process()
        jump(fleet, valkey_server, -HOUR_MS)
        wait_until(lambda: valkey_server.admin.pttl(fleet.broker.keys.lease) <= 500)
        watched = time.monotonic()
        wait_until(lambda: fleet.active_pid() != active.pid or time.monotonic() - watched > 2.5)
        assert fleet.active_pid() == active.pid
        assert standby.running


def test_the_clock_is_set_back_and_workers_die(valkey_server: RealServer, tmp_path: Path) -> None:
    handled = Handled()
    with Fleet(valkey_server, tmp_path, SLOW.removeprefix(HASTY), max_size=2) as fleet:
        fleet.scheduler()
        doomed, steady = fleet.worker(), fleet.worker()
        mb = fleet.batcher(result_handler=handled)
        mb.record_events([1, 2, 3, 4])
        fleet.wait_for_note("runs", 2)
        doomed.send(signal.SIGSTOP)  # it stops sending heartbeats
        jump(fleet, valkey_server, -HOUR_MS)
        doomed.send(signal.SIGKILL)
        fleet.worker()
        lines = fleet.wait_for_note("runs", 3, timeout=15)
        assert [line.split()[1] for line in lines] == ["1", "1", "2"]
        fleet.let("go")
        fleet.finish(mb)
        assert steady.running
        assert len(fleet.noted("runs")) == 3  # the surviving worker kept its batch
        check_account(fleet.broker)
    assert handled.events == [1, 2, 3, 4]


class Shifted:
    """A server with a clock that is offset by as much as a test says."""

    def __init__(self, server: RealServer, offset: Path) -> None:
        self.server = server
        self._offset = offset

    def set_clock(self, hours: int) -> None:
        """Offset the clock by ``hours``, and return when that is done."""
        self._offset.write_text(f"{hours:+}h")
        wait_until(lambda: abs(self.server.admin.time()[0] - time.time() - hours * 3600) < 60)


@pytest.fixture
def shifted(make_server: MakeServer, tmp_path: Path) -> Shifted:
    """A Valkey, because the allocator of Debian's Redis can't be loaded together with faketime."""
    need("faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        missing("faketime", "faketime has no library where Debian has it")
    offset = tmp_path / "offset"
    offset.write_text("+0h")
    server = make_server("valkey")
    settings = [f"FAKETIME_TIMESTAMP_FILE={offset}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
    server._command[:0] = ["env", f"LD_PRELOAD={library}", *settings]
    server.restart()
    return Shifted(server, offset)


@pytest.mark.parametrize("hours", [1, -1])
def test_the_clock_is_set_and_set_right_again(shifted: Shifted, tmp_path: Path, hours: int) -> None:
    handled = Handled()
    with Fleet(shifted.server, tmp_path, HASTY + ECHO, lease_ttl=0.8, max_size=5) as fleet:
        schedulers = [fleet.scheduler_process() for _ in range(2)]
        workers = [fleet.worker() for _ in range(2)]
        recorder = Recorder(fleet.batcher())
        recorder.start()

        def all_goes_on() -> None:
            wanted = recorder.count + 20
            wait_until(lambda: fleet.broker.stats.counters().done_events >= wanted, 60, fleet.state)

        all_goes_on()
        active = wait_until(fleet.active_pid)
        gone = [workers.pop(), *(scheduler for scheduler in schedulers if scheduler.pid == active)]
        for process in gone:
            process.send(signal.SIGSTOP)  # what it wrote last has a time from before the change
        shifted.set_clock(hours)
        for process in gone:
            process.kill()
        wait_until(lambda: fleet.active_pid() not in (None, active), TAKEN_OVER_SECONDS)
        all_goes_on()
        shifted.set_clock(0)
        all_goes_on()
        recorder.finish()
        fleet.finish(fleet.batcher(result_handler=handled))
        assert list(Audit(fleet.broker).findings()) == []
        check_account(fleet.broker)
    assert handled.events == list(range(recorder.count))
