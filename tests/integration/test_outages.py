"""A server that dies and comes back, forgets its scripts, or whose replies are lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from microbatch.broker.errors import InDoubt, ServerError
from microbatch.broker.lua import scripts
from microbatch.producer import BatchInfo, MicroBatcher
from tests.conftest import MakeServer
from tests.fleet import ECHO, HASTY, Fleet, Recorder
from tests.proxy import Proxy
from tests.servers import Program, RealServer
from tests.waiting import wait_until

FAILS_ONCE = (
    HASTY
    + """
def process(batch, info: BatchInfo):
    if 3 in batch and info.attempt == 1:
        raise OSError("the disk is away")
    return batch
"""
)


class Handled:
    """A result handler that accepts a batch twice, because an acknowledgement may be lost."""

    def __init__(self) -> None:
        self.batches: dict[str, list[int]] = {}

    def run(self, result: list[int], info: BatchInfo) -> None:
        assert self.batches.setdefault(info.id, result) == result

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.batches) + count
        wait_until(lambda: len(self.batches) >= wanted, 20, "more batches to handle")

    @property
    def events(self) -> list[int]:
        return sorted(event for batch in self.batches.values() for event in batch)


def handle_all(mb: MicroBatcher) -> None:
    """Handle everything as an application does: repeat a call that could not be made."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            mb.wait_for_results(deadline - time.monotonic())
        except ServerError:
            continue
        return


def handle_until(mb: MicroBatcher, results: list[int], count: int) -> None:
    wait_until(lambda: mb.wait_for_results(0.02) or len(results) >= count)


@pytest.mark.parametrize("program", ["valkey", "redis"])
def test_everything_goes_on_after_a_restart(
    make_server: MakeServer, tmp_path: Path, program: Program
) -> None:
    server = make_server(program, appendonly=True)
    handled = Handled()
    with Fleet(server, tmp_path, HASTY + ECHO, max_size=20) as fleet:
        processes = [fleet.worker(), fleet.worker(), fleet.scheduler_process(), fleet.scheduler_process()]
        # A process that finds no server at its start says so and ends.
        wait_until(lambda: server.admin.scard("rq:workers") == 2)
        wait_until(lambda: server.admin.zcard(fleet.broker.keys.schedulers) == 2)
        mb = fleet.batcher(result_handler=handled)
        recorder = Recorder(mb)
        handling = threading.Thread(target=handle_all, args=(mb,))
        recorder.start()
        handling.start()
        for _ in range(3):
            handled.wait_for_more(5)
            server.restart()
        recorder.finish()
        mb.stop()
        handling.join()
        for process in processes:
            assert process.running, process.output
    counts = Counter(handled.events)
    assert set(counts.values()) == {1}
    assert set(range(recorder.count)) - counts.keys() <= recorder.doubtful
    assert len(recorder.doubtful) <= 3


def test_a_server_may_forget_its_scripts(server: RealServer, tmp_path: Path) -> None:
    results: list[int] = []
    with Fleet(server, tmp_path, max_size=1) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        for event in range(5):
            mb.record_event(event)
            handle_until(mb, results, event + 1)
            server.admin.script_flush()
        fleet.finish(mb)
    assert results == [0, 1, 2, 3, 4]


@pytest.fixture
def proxy(valkey_server: RealServer) -> Proxy:
    return Proxy(valkey_server)


def test_an_event_whose_reply_was_lost_is_recorded_once(
    valkey_server: RealServer, tmp_path: Path, proxy: Proxy
) -> None:
    handled = Handled()
    with proxy, Fleet(valkey_server, tmp_path, ECHO, redis_url=proxy.url) as fleet:
        mb = fleet.batcher(result_handler=handled)
        proxy.eat_reply_to("RPUSH")
        with pytest.raises(InDoubt):
            mb.record_event(1)
        mb.record_event(2)
        proxy.eat_reply_to("RPUSH")
        with pytest.raises(InDoubt):
            mb.record_events([3, 4])
        assert fleet.broker.events.waiting() == 4
        fleet.worker()
        fleet.scheduler()
        fleet.finish(mb)
    assert handled.events == [1, 2, 3, 4]


@pytest.mark.leaves("events", "wake")
@pytest.mark.parametrize("kind", [list, iter])
def test_after_a_chunk_in_doubt_no_other_is_sent(
    valkey_server: RealServer,
    tmp_path: Path,
    proxy: Proxy,
    kind: Callable[[Iterable[int]], Iterable[int]],
) -> None:
    with proxy, Fleet(valkey_server, tmp_path, redis_url=proxy.url) as fleet:
        mb = fleet.batcher()
        proxy.eat_reply_to("RPUSH")
        with pytest.raises(InDoubt):
            mb.record_events(kind(range(2_500)))
        assert fleet.broker.events.waiting() == 1_000


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("cut: move", "EXEC"), id="cut"),
        pytest.param(("LMOVE",), id="dequeue"),
        pytest.param((scripts.COMMIT.sha, scripts.CLAIM_NEXT.sha), id="claim"),
        pytest.param((scripts.FAIL.sha,), id="fail"),
        pytest.param((scripts.RETRY.sha,), id="retry"),
        pytest.param(("swap_run: write", "EXEC"), id="enqueue-again"),
        pytest.param((scripts.COMMIT.sha,), id="commit"),
        pytest.param(("XREADGROUP", "BLOCK"), id="deliver"),
        pytest.param((scripts.ACKNOWLEDGE.sha,), id="acknowledge"),
        pytest.param((scripts.RENEW_LEASE.sha,), id="renew"),
        # What RQ records about jobs and workers.
        pytest.param(("ZADD", "rq:wip:mb:letters"), id="rq-start"),
        pytest.param(("\r\nstarted\r\n",), id="rq-started"),
        pytest.param(("SMEMBERS",), id="rq-end"),
        pytest.param(("rq:finished:mb:letters",), id="rq-ended"),
        pytest.param(("state", "idle"), id="rq-idle"),
        pytest.param(("rq:suspended",), id="rq-suspended"),
    ],
)
def test_no_other_lost_reply_loses_or_doubles_anything(
    valkey_server: RealServer,
    tmp_path: Path,
    proxy: Proxy,
    words: tuple[str, ...],
    hasty_reconciler: None,
) -> None:
    for script in vars(scripts).values():
        if isinstance(script, scripts.Script):
            valkey_server.admin.script_load(script.text)
    settings = {"max_size": 2, "retry_delay": 0.05, "lease_ttl": 0.6}
    handled = Handled()
    with proxy, Fleet(valkey_server, tmp_path, FAILS_ONCE, redis_url=proxy.url, **settings) as fleet:
        worker = fleet.worker()
        fleet.scheduler()
        proxy.eat_reply_to(*words)
        mb = fleet.batcher(result_handler=handled)
        handling = threading.Thread(target=handle_all, args=(mb,))
        handling.start()
        fleet.batcher(redis_url=valkey_server.url).record_events(range(8))
        assert proxy.eaten.wait(20)
        mb.stop()
        handling.join()
        assert fleet.broker.stats.counters().done_events == 8, fleet.state()
        assert worker.running, worker.output
    assert handled.events == list(range(8))
