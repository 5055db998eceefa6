"""Lingering events on a real server: a process ends, forks or is killed, or the server goes away."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from microbatch.broker.errors import InDoubt, ServerError
from microbatch.producer import MicroBatcher, start
from tests.conftest import MakeServer
from tests.fleet import ECHO, Fleet
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.unit.steps import values_of
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("events", "wake")  # in most of these tests, nothing is cut

LONG = 60_000

RECORD = """
import multiprocessing, os, signal, sys
from microbatch.producer import Config, start

mb = start(Config(), linger=60_000)

def record(first, count):
    for event in range(first, first + count):
        mb.record_event(event)

record(0, 10)
"""
ENDS = {
    "returns": "",
    "exits": "sys.exit(0)",
    "raises": "raise SystemExit(0) from ValueError()",
    "forks": "if not os.fork(): record(10, 5); sys.exit(0)\nos.wait()\nrecord(15, 5)",
    "starts a process": """
record(10, 5)
child = multiprocessing.get_context("fork").Process(target=record, args=(15, 5))
child.start()
child.join()
assert child.exitcode == 0
""",
}
# Celery's prefork children end like this: with a signal, and no other call.
CELERY = """
import os, sys
from types import ModuleType

class Signal:
    receivers = []
    def connect(self, receiver, weak=True): self.receivers.append(receiver)
    def disconnect(self, receiver): self.receivers.remove(receiver)
    def send(self, **about): return [receiver(signal=self, **about) for receiver in list(self.receivers)]

signals = sys.modules["celery.signals"] = ModuleType("celery.signals")
signals.worker_process_shutdown = Signal()

def end(number=0):
    signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)
    os._exit(0)
"""
HOSTED = {
    "a child": "if not os.fork(): record(10, 5); end()\nos.wait()\nrecord(15, 5); end()",
    "the batcher is the child's": (
        "if not os.fork(): mb = start(Config(), linger=60_000); record(10, 10); end()\nos.wait(); end()"
    ),
    "closed before": "record(10, 10); mb.close(); end()",
}
JOB = """
import os
from microbatch.producer import Config, start

def job():
    mb = start(Config(), linger=60_000)
    mb.record_event(1)
    if os.environ.get("FLUSHES"):
        mb.flush()
"""
ENQUEUE = """
import sys
from redis import Redis
from rq import Queue, Worker
connection = Redis.from_url(sys.argv[1])
Queue("jobs", connection=connection).enqueue("job.job")
Worker(["jobs"], connection=connection).work(burst=True)
"""
IS_KILLED = """
mb.flush()
record(10, 5)
print("recorded", flush=True)
signal.pause()
"""


@pytest.fixture
def server(valkey_server: RealServer) -> RealServer:
    """One kind of server will do: a lingering producer sends what another sends."""
    return valkey_server


def waiting(fleet: Fleet) -> list[object]:
    return values_of(fleet.broker.server.do("LRANGE", fleet.broker.keys.events, 0, -1))


@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_ends_has_sent_everything(server: RealServer, tmp_path: Path, end: str) -> None:
    with Fleet(server, tmp_path) as fleet:
        program = fleet.run(RECORD + ENDS[end])
        assert program.wait() == 0, program.output
        assert sorted(map(str, waiting(fleet))) == sorted(map(str, range(20 if "5" in ENDS[end] else 10)))


@pytest.mark.parametrize("end", HOSTED)
def test_a_child_of_celery_that_ends_has_sent_everything(
    valkey_server: RealServer, tmp_path: Path, end: str
) -> None:
    with Fleet(valkey_server, tmp_path) as fleet:
        program = fleet.run(CELERY + RECORD + HOSTED[end])
        assert program.wait() == 0, program.output
        assert sorted(map(str, waiting(fleet))) == sorted(map(str, range(20)))


def test_a_fork_of_a_processor_that_ends_has_sent_everything(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    forks = """
from microbatch.worker.forks import forks_end_here
with forks_end_here():
    if not os.fork():
        record(10, 10)
    else:
        os.wait()
"""
    with Fleet(valkey_server, tmp_path) as fleet:
        program = fleet.run(RECORD + forks)
        assert program.wait() == 0, program.output
        assert sorted(map(str, waiting(fleet))) == sorted(map(str, range(20)))


@pytest.mark.parametrize("flushes", [False, True])
def test_in_a_job_of_rq_it_is_told_that_nothing_is_sent_at_its_end(
    valkey_server: RealServer, tmp_path: Path, *, flushes: bool
) -> None:
    (tmp_path / "job.py").write_text(JOB)
    with Fleet(valkey_server, tmp_path) as fleet, pytest.MonkeyPatch.context() as patched:
        if flushes:
            patched.setenv("FLUSHES", "1")
        program = fleet.run(ENQUEUE, valkey_server.url)
        assert program.wait() == 0, program.output
        assert waiting(fleet) == ([1] if flushes else [])
        told = "an event lingers in a job of RQ, whose worker ends the job's process without sending it"
        assert told in program.output
        fleet.broker.server.do("FLUSHALL")


def test_a_kill_loses_what_was_not_flushed_and_no_more(server: RealServer, tmp_path: Path) -> None:
    with Fleet(server, tmp_path) as fleet:
        program = fleet.run(RECORD + IS_KILLED)
        program.wait_for_line("recorded")
        program.kill()
        assert waiting(fleet) == list(range(10))


def test_a_kill_loses_no_more_than_the_linger_time(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path) as fleet:
        program = fleet.run((RECORD + IS_KILLED).replace("mb.flush()", "").replace("60_000", "5"))
        program.wait_for_line("recorded")
        wait_until(lambda: waiting(fleet) == list(range(15)))
        program.kill()


def test_many_threads_that_linger_lose_and_double_nothing(server: RealServer, tmp_path: Path) -> None:
    events: list[int] = []
    with Fleet(server, tmp_path, ECHO, max_size=70) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = start(fleet.config(result_handler=events.extend), linger=5)

        def record(first: int) -> None:
            for event in range(first, first + 3_000):
                mb.record_event(event)
            mb.record_events(range(first + 3_000, first + 4_000))

        with mb:
            threads = [threading.Thread(target=record, args=(first,)) for first in range(0, 16_000, 4_000)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            mb.stop()
            assert mb.wait_for_results(30), fleet.state()
    assert sorted(events) == list(range(16_000))


def test_a_server_that_is_away_for_a_while_gets_everything(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server(appendonly=True)
    with Fleet(server, tmp_path) as fleet, start(fleet.config(), linger=1) as mb:
        mb.record_event(0)
        mb.flush()
        server.kill()
        for event in range(1, 100):
            mb.record_event(event)
        with pytest.raises(ServerError, match="events that linger here: 99"):
            mb.flush()
        server.start()
        wait_until(lambda: len(waiting(fleet)) == 100)
        mb.flush()
        assert waiting(fleet) == list(range(100))


def recorded_in_doubt(mb: MicroBatcher, proxy: Proxy) -> None:
    for event in range(3):
        mb.record_event(event)
    proxy.eat_reply_to("RPUSH")
    with pytest.raises(InDoubt, match=r"^3 events may or may not have been recorded: "):
        mb.flush()


def test_events_whose_reply_was_lost_are_told_and_recorded_once(
    valkey_server: RealServer, tmp_path: Path
) -> None:
    proxy = Proxy(valkey_server)
    with proxy, Fleet(valkey_server, tmp_path) as fleet:
        mb = start(fleet.config(redis_url=proxy.url), linger=LONG)
        recorded_in_doubt(mb, proxy)
        mb.record_event(3)
        mb.stop()
        assert waiting(fleet) == [0, 1, 2, 3]
        mb.close()


def test_without_a_replica_replicated_events_are_in_doubt(valkey_server: RealServer, tmp_path: Path) -> None:
    with Fleet(valkey_server, tmp_path, durability="replicated") as fleet:
        mb = start(fleet.config(), linger=LONG)
        mb.record_event(0)
        mb.record_event(1)
        with pytest.raises(InDoubt, match=r"^2 events .*no replica of .* confirmed"):
            mb.flush()
        assert waiting(fleet) == [0, 1]
        mb.close()
