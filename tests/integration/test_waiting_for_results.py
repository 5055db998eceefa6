"""wait_for_results(): it ends when it should, at once, and sends few commands during the wait."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from microbatch.broker.state.progress import Progress
from microbatch.broker.transport.request import Steps
from microbatch.broker.transport.verb import verb
from microbatch.producer import start
from tests.conftest import MakeServer
from tests.fleet import Fleet
from tests.servers import Program, RealServer
from tests.waiting import wait_until

# Without a stop, a wait lasts 5 s, the longest that it blocks at the server.
AT_ONCE = 4.0

STOPPED_BY_SIGNAL = """
import signal
from microbatch.producer import Config, start

mb = start(Config())
signal.signal(signal.SIGTERM, lambda number, frame: mb.stop())
assert mb.wait_for_results() is True
mb.close()
print("returned", flush=True)
"""

# A signal arrives during stop(), and the program's handler stops as well.
STOPPED_TWICE = """
import os, signal
from microbatch.producer import Config, start

mb = start(Config())
server = mb._broker.server
perform = server.perform

def interrupted(asked):
    server.perform = perform
    os.kill(os.getpid(), signal.SIGTERM)
    return perform(asked)

server.perform = interrupted
signal.signal(signal.SIGTERM, lambda number, frame: mb.stop())
mb.stop()
assert mb.wait_for_results(20)
mb.close()
print("returned", flush=True)
"""


def wait_for_blocked_clients(server: RealServer, count: int) -> None:
    wait_until(lambda: server.admin.info("clients")["blocked_clients"] >= count)


def commands(server: RealServer) -> int:
    return sum(statistics["calls"] for statistics in server.admin.info("commandstats").values())


def test_nothing_recorded_is_nothing_to_wait_for(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path) as fleet, fleet.scheduling():
        mb = fleet.batcher()
        mb.stop()
        assert mb.wait_for_results(10)
        assert mb.wait_for_results(10)


def thousand_rounds(fleet: Fleet) -> list[float]:
    """The duration of each of a thousand rounds, in seconds, after those in which the worker starts."""
    fleet.worker()
    fleet.scheduler_process()
    seconds: list[float] = []
    results: list[int] = []
    config = fleet.config(result_handler=results.append)
    for number in range(1_010):
        began = time.monotonic()
        with start(config) as mb:
            mb.record_event(number)
            mb.stop()
            assert mb.wait_for_results(20)
        seconds.append(time.monotonic() - began)
    assert results == list(range(1_010))
    return seconds[10:]


@pytest.mark.alone
def test_two_thousand_rounds_end_when_their_result_is_handled(
    valkey_server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens between a look and a wait ends the wait: no wait lasts until its timeout."""
    ran_out: list[int] = []
    wait = Progress.wait

    def noted(progress: Progress, wait_ms: int) -> Steps[bool]:
        ended = yield from wait.ask(progress, wait_ms)
        if not ended:
            ran_out.append(wait_ms)
        return ended

    monkeypatch.setattr(Progress, "wait", verb(noted))
    # Two batchers run at the same time.
    with ThreadPoolExecutor() as threads, ExitStack() as fleets:
        batchers = [
            threads.submit(
                thousand_rounds,
                fleets.enter_context(Fleet(valkey_server, tmp_path, name=name, frequency=60_000)),
            )
            for name in ("letters", "parcels")
        ]
        seconds = [taken for batcher in batchers for taken in batcher.result()]
    assert [wait_ms for wait_ms in ran_out if wait_ms >= 4_000] == []
    assert max(seconds) < 0.5, sorted(seconds)[-10:]


@pytest.mark.alone
def test_stop_on_another_thread_ends_a_wait_at_once(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path) as fleet, fleet.scheduling():
        mb = fleet.batcher()
        outcomes: list[bool] = []
        waiting = threading.Thread(target=lambda: outcomes.append(mb.wait_for_results()))
        waiting.start()
        wait_for_blocked_clients(server, 2)  # the other is the scheduler
        stopped = time.monotonic()
        mb.stop()
        waiting.join(20)
        assert time.monotonic() - stopped < AT_ONCE
        assert outcomes == [True]


@pytest.mark.alone
def test_stop_in_a_signal_handler_ends_a_wait_at_once(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path) as fleet:
        program = fleet.run(STOPPED_BY_SIGNAL)
        wait_for_blocked_clients(server, 1)
        with fleet.scheduling():
            signalled = time.monotonic()
            program.send(signal.SIGTERM)
            assert program.wait() == 0, program.output
            assert time.monotonic() - signalled < AT_ONCE


def test_a_signal_handler_may_stop_during_a_stop(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path) as fleet, fleet.scheduling():
        program = fleet.run(STOPPED_TWICE)
        program.wait_for_line("returned", timeout=10)
        assert program.wait() == 0


@pytest.mark.parametrize("program", ["valkey", "redis"])
def test_a_timeout_returns_false_and_idling_asks_for_little(
    program: Program, make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(program)  # no other client sends commands to it
    with Fleet(server, tmp_path) as fleet:
        mb = fleet.batcher()
        before = commands(server)
        started = time.monotonic()
        assert mb.wait_for_results(timeout=1) is False
        assert 1 <= time.monotonic() - started < AT_ONCE
        assert commands(server) - before <= 10
        assert mb.wait_for_results(timeout=0) is False


def test_what_others_recorded_before_the_stop_is_waited_for(server: RealServer, tmp_path: Path) -> None:
    results: list[int] = []
    with Fleet(server, tmp_path, frequency=60_000) as fleet:
        fleet.batcher().record_events([1, 2, 4])
        mb = fleet.batcher(result_handler=results.append)
        mb.stop()
        assert mb.wait_for_results(timeout=0.1) is False  # no scheduler runs yet
        fleet.scheduler()
        assert mb.wait_for_results(timeout=0.1) is False  # no worker runs yet
        fleet.worker()
        assert mb.wait_for_results(timeout=20)
    assert results == [7]


def test_two_waits_both_return(server: RealServer, tmp_path: Path) -> None:
    results: list[int] = []
    with Fleet(server, tmp_path) as fleet:
        fleet.worker()
        fleet.scheduler()
        batchers = [fleet.batcher(result_handler=results.append) for _ in range(2)]
        batchers[0].record_events(range(10))
        outcomes: list[bool] = []
        for mb in batchers:
            mb.stop()
        threads = [
            threading.Thread(target=lambda mb=mb: outcomes.append(mb.wait_for_results(20))) for mb in batchers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == [True, True]
    assert sum(results) == 45
