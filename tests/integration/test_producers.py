"""Producers: several at the same time, on threads and in forks. Some record while others have stopped."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.fleet import ECHO, Fleet
from tests.servers import RealServer

RECORD = """
import sys
from microbatch.producer import Config, start

first, count = int(sys.argv[1]), int(sys.argv[2])
with start(Config()) as mb:
    for event in range(first, first + count // 2):
        mb.record_event(event)
    mb.record_events(range(first + count // 2, first + count))
"""

RECORD_ON = """
import itertools, os, sys
from microbatch.producer import Config, start

with start(Config()) as mb:
    for event in itertools.count(1_000_000):
        mb.record_event(event)
        if event % 100 == 0:
            print("recorded", event, flush=True)
            if os.path.exists("enough"):
                print("last", event, flush=True)
                break
"""

FORK = """
import multiprocessing, os, sys
from microbatch.producer import Config, start

results = []
mb = start(Config(result_handler=results.extend))
mb.record_events(range(100))
assert not mb.wait_for_results(0.1)  # connections, and a membership in the group, from before the fork
pid = os.fork()
first = 1_000 if pid else 2_000
if not pid:
    results.clear()
for event in range(first, first + 200):
    mb.record_event(event)
if pid:
    child = multiprocessing.get_context("fork").Process(target=mb.record_events, args=(range(3_000, 3_200),))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert os.waitpid(pid, 0)[1] == 0
mb.stop()
assert mb.wait_for_results(20)
mb.close()
print("handled", *results, flush=True)
"""


# A fork while another thread is inside stop(), which continues only after the fork.
FORK_IN_A_STOP = """
import os, sys, threading
from microbatch.producer import Config, start

mb = start(Config(), linger=60_000 if sys.argv[1] == "linger" else None)
mb.record_event(1)
inside, go = threading.Event(), threading.Event()
server = mb._broker.server
perform = server.perform

def held(asked):
    if threading.current_thread() is stopping:
        inside.set()
        go.wait()
    return perform(asked)

server.perform = held
stopping = threading.Thread(target=mb.stop)
stopping.start()
inside.wait()
pid = os.fork()
if not pid:
    mb.stop()
    mb.close()
    print("stopped in the child", flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
go.set()
stopping.join()
mb.close()
print("stopped in the parent", flush=True)
"""

# A fork while another thread handles results. The child stops consuming, and the parent does not.
FORK_IN_A_WAIT = """
import os, sys, time
from microbatch.producer import Config, start

def show(result):
    print("handled", os.getpid() == parent, result, flush=True)

parent = os.getpid()
mb = start(Config(result_handler=show))
consumer = mb.start_consuming()
mb.record_event(1)
while not os.path.exists("fork"):
    time.sleep(0.01)
pid = os.fork()
if not pid:
    assert not consumer.is_running
    assert consumer.stop()
    mb.stop_consuming()
    assert mb.wait_for_results() is False
    mb.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert consumer.is_running
mb.record_event(2)
mb.stop()
assert consumer.join(20)
mb.close()
"""


def test_two_producers_lose_and_double_nothing(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    with Fleet(server, tmp_path, ECHO, max_size=70) as fleet:
        producers = [fleet.run(RECORD, first, 2_000) for first in (0, 2_000)]
        fleet.worker()
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=events.extend)
        assert [producer.wait() for producer in producers] == [0, 0]
        fleet.finish(mb)
        assert fleet.broker.stats.counters().done_events == 4_000
    assert sorted(events) == list(range(4_000))


def test_a_stop_ends_although_others_record_on(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    # Only a stop cuts, so that there is no moment at which no event waits.
    with Fleet(server, tmp_path, ECHO, max_size=25_000, frequency=600_000) as fleet:
        fleet.worker()
        fleet.scheduler()
        other = fleet.run(RECORD_ON)
        mb = fleet.batcher(result_handler=events.extend)
        other.wait_for_line("recorded")
        mb.record_events(range(1_000))
        fleet.finish(mb)
        assert set(range(1_000)) <= set(events)
        other.wait_for_line("recorded", since=len(other.lines))

        fleet.let("enough")
        last = int(other.wait_for_line("last (.*)")[1])
        assert other.wait() == 0
        fleet.finish(fleet.batcher(result_handler=events.extend))
    assert sorted(events) == [*range(1_000), *range(1_000_000, last + 1)]


def test_eight_threads_record_at_once(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    with Fleet(server, tmp_path, ECHO, max_size=64) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=events.extend)

        def record(first: int) -> None:
            for event in range(first, first + 100):
                mb.record_event(event)
            mb.record_events(range(first + 100, first + 200))

        threads = [threading.Thread(target=record, args=(first,)) for first in range(0, 1_600, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fleet.finish(mb)
    assert sorted(events) == list(range(1_600))


@pytest.mark.parametrize("linger", ["linger", "no linger"])
def test_a_fork_while_another_thread_stops(server: RealServer, tmp_path: Path, linger: str) -> None:
    with Fleet(server, tmp_path) as fleet:
        program = fleet.run(FORK_IN_A_STOP, linger)
        program.wait_for_line("stopped in the child", timeout=20)
        program.wait_for_line("stopped in the parent", timeout=20)
        assert program.wait() == 0, program.output
        fleet.worker()
        fleet.scheduler()
        fleet.finish(fleet.batcher())


def test_a_child_that_stops_to_consume_leaves_its_parent_alone(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path) as fleet:
        program = fleet.run(FORK_IN_A_WAIT)
        fleet.worker()
        fleet.scheduler()
        program.wait_for_line("handled True 1", timeout=20)
        fleet.let("fork")
        assert program.wait(30) == 0, program.output
        assert [line for line in program.lines if line.startswith("handled")] == [
            "handled True 1",
            "handled True 2",
        ]


def test_a_batcher_works_on_both_sides_of_a_fork(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path, ECHO, max_size=30) as fleet:
        program = fleet.run(FORK)
        fleet.worker()
        fleet.scheduler()
        assert program.wait() == 0, program.output
        handled = [line.split()[1:] for line in program.lines if line.startswith("handled")]
        assert len(handled) == 2, program.output
    events = sorted(int(event) for line in handled for event in line)
    assert events == [*range(100), *range(1_000, 1_200), *range(2_000, 2_200), *range(3_000, 3_200)]
