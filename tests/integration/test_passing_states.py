"""A server that refuses or does nothing for a while, and lost replies to burials."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from microbatch.broker.lua import scripts
from microbatch.broker.transport import backoff
from microbatch.producer import MicroBatcher
from tests.conftest import MakeServer
from tests.fleet import ECHO, HASTY, Fleet
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.waiting import wait_until

State = Callable[[RealServer], Callable[[], None]]


def configured(name: str, value: str, otherwise: str) -> State:
    def begin(server: RealServer) -> Callable[[], None]:
        server.admin.config_set(name, value)
        return lambda: server.admin.config_set(name, otherwise)  # type: ignore[return-value]

    return begin


def read_only(server: RealServer) -> Callable[[], None]:
    """Make the server the replica of one that does not exist, which ends the waits of all consumers."""
    server.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: server.admin.execute_command("REPLICAOF", "NO", "ONE")


def without_its_master(server: RealServer) -> Callable[[], None]:
    server.admin.config_set("replica-serve-stale-data", "no")
    return read_only(server)


def busy(server: RealServer) -> Callable[[], None]:
    """A foreign script runs and does not end."""
    server.admin.config_set("busy-reply-threshold", 1)
    other = redis.Redis.from_url(server.socket_url, retry=None)

    def run() -> None:
        with pytest.raises(redis.ResponseError, match="killed"):
            other.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> None:
        server.admin.script_kill()
        thread.join()
        other.close()

    return end


STATES: dict[str, State] = {
    "read-only": read_only,
    "without its master": without_its_master,
    "busy": busy,
    "out of memory": configured("maxmemory", "1", "0"),
    "without replicas": configured("min-replicas-to-write", "1", "0"),
}


class Slow:
    """A handler that waits at its first result until it may continue."""

    def __init__(self) -> None:
        self.results: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def run(self, result: list[int]) -> None:
        self.results.extend(result)
        self.begun.set()
        assert self.go_on.wait(30)


class Waiting(threading.Thread):
    """A call of `wait_for_results` on a thread, and how it ended."""

    def __init__(self, batcher: MicroBatcher) -> None:
        super().__init__()
        self._batcher = batcher
        self.ended: bool | BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.ended = self._batcher.wait_for_results(60)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the test is about
            self.ended = error


def commit(fleet: Fleet, *events: int) -> None:
    """Put the result of each of these events on the stream."""
    fleet.batcher().record_events(events)
    with fleet.scheduling():
        worker = fleet.worker()
        wait_until(lambda: fleet.broker.stats.counters().done_events == len(events), message=fleet.state)
        worker.terminate()
        assert worker.wait() == 0


@pytest.mark.leaves("wake")
@pytest.mark.parametrize("in_hand", [True, False], ids=["with a result in hand", "idle"])
@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_wait_for_results_waits_for_a_state_that_passes(
    make_server: MakeServer, tmp_path: Path, state: State, in_hand: bool
) -> None:
    server, handler = make_server("valkey"), Slow()
    with Fleet(server, tmp_path, ECHO, max_size=1) as fleet:
        commit(fleet, 1, 2, 3)
        mb = fleet.batcher(result_handler=handler)
        waiting = Waiting(mb)
        assert handler.begun.wait(20)
        if in_hand:
            mb.stop()  # it asks for the end when it has handled everything
        else:
            handler.go_on.set()
            wait_until(lambda: len(handler.results) == 3)
            time.sleep(0.3)  # it waits at the server
        end = state(server)
        time.sleep(0.3)
        handler.go_on.set()
        time.sleep(1)
        end()
        assert waiting.is_alive(), waiting.ended
        if not in_hand:
            mb.stop()
        waiting.join()
        assert waiting.ended is True
        assert handler.results == [1, 2, 3]


@pytest.mark.leaves("wake")
def test_a_result_in_hand_outlives_any_outage(
    make_server: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outage lasts longer than a worker keeps trying. The test shortens that time."""
    monkeypatch.setattr(backoff.retry_until_answered, "__defaults__", (0.5,))
    server, handler = make_server("valkey", appendonly=True), Slow()
    with Fleet(server, tmp_path, ECHO, max_size=1) as fleet:
        commit(fleet, 1, 2, 3)
        mb = fleet.batcher(result_handler=handler)
        waiting = Waiting(mb)
        assert handler.begun.wait(20)
        server.kill()
        handler.go_on.set()
        time.sleep(3)
        assert waiting.is_alive(), waiting.ended
        server.start()
        mb.stop()
        waiting.join()
        assert waiting.ended is True
        assert handler.results == [1, 2, 3]  # none came twice


KILLS = HASTY + "\ndef process(batch): os.kill(os.getpid(), 9)"
RAISES = "def process(batch): raise ValueError('no')"


@pytest.mark.parametrize(
    ("processor", "settings"),
    [
        pytest.param(RAISES, {"max_retries": 0}, id="by its worker"),
        pytest.param(KILLS, {"max_worker_deaths": 0}, id="by the scheduler"),
    ],
)
def test_a_batch_whose_burial_is_in_doubt_is_among_rq_s_failed_jobs(
    server: RealServer,
    tmp_path: Path,
    hasty_reconciler: None,
    processor: str,
    settings: dict[str, Any],
) -> None:
    server.admin.script_load(scripts.BURY.text)
    settings = {"isolate_failures": False, "results": "discard", "lease_ttl": 0.6, **settings}
    proxy = Proxy(server)
    with proxy, Fleet(server, tmp_path, processor, redis_url=proxy.url, **settings) as fleet:
        fleet.batcher(redis_url=server.url).record_event(1)
        proxy.eat_reply_to(scripts.BURY.sha)
        fleet.scheduler()
        fleet.pool(1)
        assert proxy.eaten.wait(30), fleet.state()
        (dead,) = wait_until(lambda: list(fleet.broker.dead), message=fleet.state)
        wait_until(lambda: server.admin.zscore("rq:failed:mb:letters", dead.id), 15)
        assert fleet.broker.stats.counters().dead_batches == 1
        fleet.broker.dead.purge(dead.id)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMAX])
def test_a_worker_that_any_signal_ended_is_replaced(
    valkey_server: RealServer, tmp_path: Path, number: int
) -> None:
    who = "def process(batch): note('pids', os.getpid())"
    with Fleet(valkey_server, tmp_path, who) as fleet:
        fleet.scheduler()
        pool = fleet.pool(1)
        mb = fleet.batcher()
        mb.record_event(1)
        (pid,) = fleet.wait_for_note("pids")
        wait_until(lambda: fleet.broker.stats.counters().done_events == 1, message=fleet.state)
        os.kill(int(pid), number)
        pool.wait_for_line(f"worker {pid} ended with signal SIG")
        mb.record_event(2)
        _, other = fleet.wait_for_note("pids", 2)
        assert other != pid
        pool.terminate()
        assert pool.wait() == 0
