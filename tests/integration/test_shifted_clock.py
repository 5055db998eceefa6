"""A server whose clock is really set forward and back, while the others' go on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from microbatch.broker.audit import Audit
from tests.conftest import MakeServer
from tests.fleet import ECHO, HASTY, Fleet, Recorder
from tests.integration.test_server_faults import Handled
from tests.programs import missing, need
from tests.servers import RealServer
from tests.unit.steps import check_account
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("wake")


class Shifted:
    """A server whose clock is as far off as it is told."""

    def __init__(self, server: RealServer, offset: Path) -> None:
        self.server = server
        self._offset = offset

    def set_clock(self, hours: int) -> None:
        """Set it so far off, and return when it is."""
        self._offset.write_text(f"{hours:+}h")
        wait_until(lambda: abs(self.server.admin.time()[0] - time.time() - hours * 3600) < 60)


@pytest.fixture
def shifted(make_server: MakeServer, tmp_path: Path) -> Shifted:
    """A Valkey: the allocator of Debian's Redis and faketime can't be loaded together."""
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
            wait_until(lambda: fleet.broker.stats.counters().done_events >= wanted, 15, fleet.state)

        all_goes_on()
        active = wait_until(fleet.active_pid)
        gone = [workers.pop(), *(scheduler for scheduler in schedulers if scheduler.pid == active)]
        for process in gone:
            process.send(signal.SIGSTOP)  # so that what it has written last is of the time before
        shifted.set_clock(hours)
        for process in gone:
            process.kill()
        wait_until(lambda: fleet.active_pid() not in (None, active), 4 * 0.8 + 1)
        all_goes_on()
        shifted.set_clock(0)
        all_goes_on()
        recorder.finish()
        fleet.finish(fleet.batcher(result_handler=handled))
        assert list(Audit(fleet.broker).findings()) == []
        check_account(fleet.broker)
    assert handled.events == list(range(recorder.count))
