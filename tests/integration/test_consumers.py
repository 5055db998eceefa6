"""Consumers: one of them handles each result, which stays on the stream until a handler has returned."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from microbatch.broker.state.results import Entry
from microbatch.broker.transport.listener import Listener
from microbatch.producer import MicroBatcher
from tests.doubles import FailsOnce, HandlerFailed
from tests.fleet import Fleet
from tests.servers import RealServer
from tests.waiting import wait_until

SLOW_CONSUMER = """
import time
from microbatch.producer import Config, start

def handle(result):
    print("got", result, flush=True)
    time.sleep(600)

start(Config(result_handler=handle)).wait_for_results()
"""


def on_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_two_consumers_share_the_results(server: RealServer, tmp_path: Path) -> None:
    handled: tuple[list[int], list[int]] = ([], [])
    both = threading.Barrier(2, timeout=20)
    with Fleet(server, tmp_path, max_size=1) as fleet:
        fleet.worker()
        fleet.scheduler()

        def consumer(results: list[int]) -> MicroBatcher:
            def handle(result: int) -> None:
                if not results:
                    both.wait()  # neither handles a second result before the other has its first
                results.append(result)

            return fleet.batcher(result_handler=handle)

        batchers = [consumer(results) for results in handled]
        threads = [on_thread(mb.wait_for_results) for mb in batchers]
        fleet.batcher().record_events(range(60))
        for mb in batchers:
            mb.stop()
        for thread in threads:
            thread.join(30)
    assert min(map(len, handled)) > 0
    assert Counter(handled[0] + handled[1]) == Counter(range(60))


def test_a_slow_batch_does_not_hold_up_the_next(server: RealServer, tmp_path: Path) -> None:
    processor = "def process(batch):\n    if 'slow' in batch: wait_for('go')\n    return batch"
    results: list[list[str]] = []
    with Fleet(server, tmp_path, processor, max_size=1) as fleet:
        fleet.worker()
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events(["slow", "a", "b", "c"])
        waiting = on_thread(mb.wait_for_results)
        wait_until(lambda: len(results) == 3, message=lambda: f"three results: {results}")
        assert sorted(results) == [["a"], ["b"], ["c"]]
        fleet.let("go")
        mb.stop()
        waiting.join(20)
    assert results[3:] == [["slow"]]


def test_a_handler_that_raises_gets_the_result_again(server: RealServer, tmp_path: Path) -> None:
    handler = FailsOnce()
    with Fleet(server, tmp_path, max_size=1) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=handler)
        mb.record_events([1, 2, 3])
        mb.stop()
        with pytest.raises(HandlerFailed, match="for 1"):
            mb.wait_for_results(20)
        assert handler.calls == [1]
        assert mb.wait_for_results(20)
    assert handler.calls == [1, 1, 2, 3]


def test_a_result_that_was_not_handled_goes_to_another_consumer(server: RealServer, tmp_path: Path) -> None:
    results: list[int] = []
    with Fleet(server, tmp_path, max_size=1, claim_after=1) as fleet:
        fleet.worker()
        fleet.scheduler()
        failing = fleet.batcher(result_handler=FailsOnce())
        failing.record_events([1, 2, 3])
        with pytest.raises(HandlerFailed):
            failing.wait_for_results(20)
        fleet.finish(fleet.batcher(result_handler=results.append))
    assert sorted(results) == [1, 2, 3]


def test_the_results_of_a_killed_consumer_go_to_another(server: RealServer, tmp_path: Path) -> None:
    results: list[int] = []
    with Fleet(server, tmp_path, max_size=1, claim_after=1) as fleet:
        consumer = fleet.run(SLOW_CONSUMER)
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events([1, 2, 3])
        consumer.wait_for_line("got")
        consumer.kill()
        fleet.finish(mb, timeout=10)  # by default, the results would stay with it for longer
    assert sorted(results) == [1, 2, 3]


def test_a_consumer_that_is_gone_is_forgotten_and_one_that_waits_gets_its_results(
    server: RealServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "microbatch.producer.member._FORGET_AFTER", 0
    )  # consumers that only wait are forgotten too
    results: list[int] = []
    with Fleet(server, tmp_path, max_size=1, claim_after=1) as fleet:
        consumer = fleet.run(SLOW_CONSUMER)
        waiting = fleet.broker.results()
        waiting.prepare()
        group = (fleet.broker.keys.results, "handlers")
        wait_until(lambda: len(server.admin.xinfo_consumers(*group)) == 1)
        consumer.kill()
        got: list[Entry] = []
        listener = Listener(fleet.broker.server)
        wait = waiting.wait.asked(count=1, wait_ms=5_000)
        thread = on_thread(lambda: got.extend(listener.perform(wait)))
        wait_until(lambda: server.admin.info("clients")["blocked_clients"] == 1)
        mb = fleet.batcher(result_handler=results.append)

        def names_after_a_look() -> list[str]:
            assert not mb.wait_for_results(0.1)
            return [row["name"].decode() for row in server.admin.xinfo_consumers(*group)]

        wait_until(lambda: len(names_after_a_look()) == 1)  # the one that has just looked
        assert waiting.consumer not in names_after_a_look()
        fleet.worker()
        fleet.scheduler()
        mb.record_event(1)
        thread.join()
        if got:  # the results are not with the other
            waiting.acknowledge([entry.id for entry in got])
        fleet.finish(mb)
    assert (len(got), results) in [(1, []), (0, [1])]


def test_a_slow_handler_keeps_its_results(server: RealServer, tmp_path: Path) -> None:
    results: list[int] = []
    others: list[int] = []
    in_hand, go = threading.Event(), threading.Event()

    def slow(result: int) -> None:
        in_hand.set()
        assert go.wait(20)
        results.append(result)

    with Fleet(server, tmp_path, claim_after=1) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=slow)
        mb.record_events([1, 2])
        mb.stop()
        handling = on_thread(mb.wait_for_results)
        assert in_hand.wait(20)
        # Consumers look for results to take over more often than six times in `claim_after`, minus pauses.
        looked = calls_of(server, "xautoclaim")
        other = fleet.batcher(result_handler=others.append)
        looking = on_thread(other.wait_for_results)
        wait_until(lambda: calls_of(server, "xautoclaim") >= looked + 12)
        assert others == []
        go.set()
        handling.join(20)
        other.stop()
        looking.join(20)
    assert (results, others) == ([3], [])


def calls_of(server: RealServer, command: str) -> int:
    statistics = server.admin.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
    return int(statistics["calls"])
