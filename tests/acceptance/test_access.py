"""The least rights of each role: every role works with the rule that docs/operations.md has for it."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from microbatch.broker.errors import BatcherFull, EventFailed
from microbatch.broker.wire.event import encode_event
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.identity import new_id
from microbatch.broker.wire.run_record import RunRecord
from microbatch.producer import Config, start
from tests.conftest import Command, MakeServer
from tests.processes import Process
from tests.servers import LOCALHOST, Program, RealServer
from tests.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
ROLES = ["producer", "consumer", "scheduler", "worker", "operator"]
KEY = "mb:{letters}:"

# Batches that are done, that fail at first, that fail in part, that are divided, and that die.
APP = """\
import threading, time
from microbatch.producer import BatchInfo, Config, PartialFailure, start

def total(batch, info: BatchInfo):
    if "flaky" in batch and info.attempt == 1:
        raise OSError("the disk is away")
    if "part" in batch and len(batch) > 1:
        raise PartialFailure({batch.index("part"): "not yet"}, result=len(batch) - 1)
    if "poison" in batch:
        raise ValueError("poison")
    return len(batch)

config = Config(
    name="letters", batch_processor=total, frequency=200, max_size=4, max_retries=1, retry_delay=0.1,
    max_waiting=4, dedupe_window=60, results_max=100, claim_after=1, keep_dead="1h", keep_dead_max=100,
)
"""

PRODUCER = """\
from microbatch.broker.errors import BatcherFull, EventFailed
from microbatch.producer import start
from app import config

with start(config) as mb:
    assert mb.record_events(["a", "b", "c", "flaky"]) == 4
    try:
        mb.record_event("d")
    except BatcherFull:
        print("full", flush=True)
with start(config.model_copy(update={"block_when_full": 20.0})) as mb:
    mb.record_event("d", id="one")
    mb.record_event("d", id="one")
    assert mb.record_events(["part", "e", "f", "h"]) == 4
    mb.stop()
    print("stopped", flush=True)
with start(config.model_copy(update={"max_waiting": None})) as mb:
    mb.record_events(["g", "poison"])
with start(config.model_copy(update={"max_waiting": None, "eager": True})) as mb:
    mb.record_event("i")
"""

CONSUMER = """\
import threading, time
from microbatch.producer import start
from app import config

raised, mourned, enough = threading.Event(), threading.Event(), threading.Event()

def show(result):
    if not raised.is_set():
        raised.set()
        time.sleep(0.6)  # long enough to be shown as still at work on it
        raise RuntimeError("again, please")
    print("result", result, flush=True)

def mourn(failure):
    print("dead", failure.error, failure.events, flush=True)
    mourned.set()

def consume(mb):
    while True:
        try:
            return mb.wait_for_results()
        except RuntimeError:
            continue

handlers = {"result_handler": show, "failure_handler": mourn}
with start(config.model_copy(update=handlers)) as mb:
    consumer = threading.Thread(target=consume, args=(mb,))
    consumer.start()
    mourned.wait()
    time.sleep(0.3)  # it waits at the server now, and has to be interrupted
    mb.stop()
    consumer.join()
    print("all handled", flush=True)
"""


def rules() -> dict[str, str]:
    """The rule of each role in the document."""
    text = PAGE.read_text("utf-8")
    (block,) = re.findall(r"^```acl\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^ACL SETUSER (\w+) (.*?)(?=^ACL|\Z)", block, re.MULTILINE | re.DOTALL)
    return {name: " ".join(rule.split()) for name, rule in commands}


def set_users(server: RealServer) -> None:
    for name, rule in rules().items():
        words = [word for word in rule.split() if word != "+client|setinfo" or knows_setinfo(server)]
        server.admin.execute_command("ACL", "SETUSER", name, *_with_selectors(words))


def knows_setinfo(server: RealServer) -> bool:
    """Redis 7.0 has no CLIENT SETINFO. The document says to leave it out there."""
    return "setinfo" in str(server.admin.execute_command("CLIENT", "HELP")).lower()


def _with_selectors(words: list[str]) -> Iterator[str]:
    """The words of a rule; the words in brackets count as one."""
    for group, word in re.findall(r"(\([^)]*\))|(\S+)", " ".join(words)):
        yield group or word


def url_of(server: RealServer, role: str) -> str:
    return f"redis://{role}:secret@{LOCALHOST}:{server.port}/0"


def refusals(server: RealServer) -> list[tuple[str, str, str]]:
    """The user, the command and the object of each refusal."""
    log: list[dict[str, Any]] = server.admin.acl_log()
    return [(entry["username"], entry["context"], entry["object"]) for entry in log]


@pytest.fixture(params=["valkey", "redis"])
def guarded(request: pytest.FixtureRequest, make_server: MakeServer) -> RealServer:
    """A server that has a user for each role."""
    program: Program = request.param
    server = make_server(program, tcp=True)
    set_users(server)
    return server


def test_there_is_a_rule_for_each_role() -> None:
    assert sorted(rules()) == sorted(ROLES)


def test_each_role_works_with_its_own_rule(guarded: RealServer, command: Command, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "producer.py").write_text(PRODUCER)
    (tmp_path / "consumer.py").write_text(CONSUMER)
    url = {role: url_of(guarded, role) for role in ROLES}

    producer = command("python", "producer.py", url=url["producer"])
    producer.wait_for_line("full")
    schedulers = [command("microbatch", "scheduler", "app.py", url=url["scheduler"]) for _ in range(2)]
    worker = command("microbatch", "worker", "app.py", "--concurrency", "2", url=url["worker"])
    consumer = command("python", "consumer.py", url=url["consumer"])
    assert producer.wait() == 0, producer.output
    assert consumer.wait() == 0, f"{consumer.output}\n{worker.output}\n{refusals(guarded)}"
    assert "dead ValueError: poison ['poison']" in consumer.stdout
    recorder = command("microbatch", "record", "letters", "--create", url=url["producer"], stdin='"a"\n"b"\n')
    assert recorder.wait() == 0, recorder.output
    results = command("microbatch", "results", "letters", url=url["consumer"])
    assert results.wait() == 0, results.output

    operate(command, guarded, url["operator"])
    for process in (*schedulers, worker):
        process.terminate()
        assert process.wait() == 0, process.output
    assert refusals(guarded) == []


def test_a_worker_may_show_that_it_lives_and_give_back_what_it_has_in_hand(
    guarded: RealServer, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(
        "import time\nfrom microbatch.producer import Config\n"
        "def process(batch):\n    print('it runs', flush=True)\n    time.sleep(600)\n"
        "config = Config(name='letters', batch_processor=process, frequency=50)\n"
    )
    with start(Config(name="letters", redis_url=url_of(guarded, "producer"))) as mb:
        mb.record_event("a")
    command("microbatch", "scheduler", "app.py", url=url_of(guarded, "scheduler"))
    worker = command("microbatch", "worker", "app.py", "--grace", "0", url=url_of(guarded, "worker"))
    worker.wait_for_line("it runs")
    claimed = guarded.admin.zrange(KEY + "inflight", 0, -1, withscores=True)
    wait_until(lambda: guarded.admin.zrange(KEY + "inflight", 0, -1, withscores=True) != claimed)
    worker.terminate()
    assert worker.wait() == 0, worker.output
    assert guarded.admin.lrange("rq:queue:mb:letters", 0, -1) == [claimed[0][0]]
    assert [refusal for refusal in refusals(guarded) if refusal[0] == "worker"] == []


def test_a_producer_may_record_what_a_replica_has_to_confirm(
    guarded: RealServer, make_server: MakeServer
) -> None:
    make_server(guarded.program, tcp=True, arguments=["--replicaof", LOCALHOST, str(guarded.port)])
    wait_until(lambda: guarded.admin.wait(1, 100) == 1)
    config = Config(
        name="letters",
        redis_url=url_of(guarded, "producer"),
        durability="replicated",
        dedupe_window=60,
        max_waiting=2,
    )
    with start(config) as mb:
        for _ in range(2):
            mb.record_event("a", id="one")
        mb.record_event("b")
        with pytest.raises(BatcherFull):
            mb.record_event("c")
        mb.stop()
    assert guarded.admin.llen(KEY + "events") == 2
    assert refusals(guarded) == []


OWN_RESULTS = """\
import os, signal
from microbatch.producer import BatchInfo, Config, Reject

def process(batch, info: BatchInfo):
    if "deadly" in batch:
        os.kill(os.getpid(), signal.SIGKILL)
    return [Reject("bad") if event == "bad" else event.upper() for event in batch]

config = Config(
    name="letters", batch_processor=process, per_event=True, frequency=100, max_retries=0,
    max_worker_deaths=0, isolate_failures=False,
)
"""


def test_events_may_be_submitted_and_replied_to(
    guarded: RealServer, command: Command, tmp_path: Path
) -> None:
    """By a worker that commits, divides and buries a batch, and by a scheduler that buries one."""
    (tmp_path / "app.py").write_text(OWN_RESULTS)
    command("microbatch", "scheduler", "app.py", url=url_of(guarded, "scheduler"))
    command("microbatch", "worker", "app.py", url=url_of(guarded, "worker"))
    with start(Config(name="letters", per_event=True, redis_url=url_of(guarded, "producer"))) as mb:
        assert list(mb.map(["a", "b"])) == ["A", "B"]
        futures = mb.submit_many(["c", "bad", "d"])
        assert [futures[0].result(60), futures[2].result(60)] == ["C", "D"]
        for event in ("bad", "deadly"):
            with pytest.raises(EventFailed):
                mb.submit(event).result(120)
        assert mb.submit("e", expires=60).result(60) == "E"
        assert guarded.admin.keys(KEY + "reply:*")
    assert guarded.admin.keys(KEY + "reply:*") == []
    assert refusals(guarded) == []


@pytest.mark.leaves("quarantine")
def test_a_consumer_may_quarantine_an_entry_that_is_not_a_result(guarded: RealServer) -> None:
    guarded.admin.xadd(KEY + "results", {"not": "a result"})
    with start(Config(name="letters", redis_url=url_of(guarded, "consumer"))) as mb:
        mb.stop()
        assert mb.wait_for_results(timeout=10)
    assert guarded.admin.llen(KEY + "quarantine:results") == 1
    assert refusals(guarded) == []


def operate(command: Command, server: RealServer, url: str) -> None:
    """Do everything that an operator does."""

    def microbatch(*words: str, code: int = 0) -> str:
        process = command("microbatch", *words, url=url)
        assert process.wait() == code, f"{process.output}\n{refusals(server)}"
        return process.output

    def dead() -> list[str]:
        return microbatch("dead", "list", "letters", "--json").splitlines()

    microbatch("status", "letters")
    microbatch("flush", "letters")
    assert "poison" in microbatch("dead", "show", "letters", "--all")
    assert microbatch("dead", "replay", "letters", "--all").startswith("replay: 1 batch, 1 event")
    wait_until(dead, 20)
    dashboard = command("microbatch", "dashboard", "letters", "--port", "0", url=url)
    browse(dashboard, server)
    wait_until(lambda: server.admin.hget(KEY + "stats", "revived_batches") == b"1", 20)
    wait_until(dead, 20)
    assert microbatch("dead", "purge", "letters", "--all").startswith("purge: 1 batch, 1 event")

    now_ms = int(time.time() * 1000)  # a batch that died long ago is no longer kept
    stray: list[str | bytes] = [
        Header(Trigger.TICK, 1, 1).encode(),
        RunRecord().encode(),
        encode_event(b'"x"', 1),
    ]
    server.admin.rpush(KEY + f"batch:{new_id()}", *stray)
    server.admin.zadd(KEY + "dead", {"missing": now_ms})
    server.admin.rpush(KEY + "batch:broken", "so what")
    server.admin.zadd(KEY + "dead", {"broken": now_ms})
    server.admin.rpush("rq:queue:mb:letters", "nobody")
    repaired = microbatch("verify", "letters", "--repair", code=1)
    assert "put in flight" in repaired
    assert "quarantined as" in repaired
    wait_until(lambda: server.admin.zcard(KEY + "inflight") == 0, 20)
    assert "all is accounted for" in microbatch("verify", "letters")


def browse(dashboard: Process, server: RealServer) -> None:
    """Look at every page of the dashboard, and requeue the dead batch there."""
    url = dashboard.wait_for_line(r"rq-dashboard of letters on .*: (http://\S+) ")[1]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    failed: Any = server.admin.zrange("rq:failed:mb:letters", 0, -1)
    (job,) = (raw.decode() for raw in failed)
    for path in ("queues", "workers", "jobs/mb:letters/failed/8/asc/1", f"job/{job}"):
        with opener.open(f"{url}0/data/{path}.json", timeout=10) as answer:
            assert answer.status == 200
    with opener.open(f"{url}job/{job}/requeue", data=b"", timeout=10) as answer:
        assert b"OK" in answer.read()


def test_where_config_get_is_refused_one_risk_is_not_looked_at(
    make_server: MakeServer, command: Command, tmp_path: Path
) -> None:
    server = make_server("valkey", tcp=True, arguments=["--appendonly", "yes", "--appendfsync", "no"])
    set_users(server)
    (tmp_path / "app.py").write_text(APP)
    scheduler = command("microbatch", "scheduler", "app.py", url=url_of(server, "scheduler"))
    scheduler.wait_for_line("active")
    assert "appendfsync" not in scheduler.output
    assert refusals(server) == [("scheduler", "toplevel", "config|get")]

    server.admin.execute_command("ACL", "SETUSER", "operator", "+config|get")
    status = command("microbatch", "status", "letters", url=url_of(server, "operator"))
    assert status.wait() == 0, status.output
    assert "appendfsync is no" in status.output


FORBIDDEN: dict[str, list[tuple[str, ...]]] = {
    "producer": [
        ("XRANGE", KEY + "results", "-", "+"),
        ("XREADGROUP", "GROUP", "handlers", "me", "STREAMS", KEY + "results", ">"),
        ("LRANGE", KEY + "events", "0", "-1"),
        ("RENAME", KEY + "events", KEY + "batch:1"),
        ("ZADD", KEY + "inflight", "1", "1"),
        ("SET", KEY + "lease", "me"),
        ("RPUSH", "rq:queue:mb:letters", "1"),
        ("XADD", KEY + "results", "*", "a", "1"),
        ("EVAL", "return redis.call('LPOP', KEYS[1])", "1", KEY + "events"),
        ("EVAL", "return redis.call('RPUSH', KEYS[1], '1')", "1", KEY + "batch:1"),
    ],
    "consumer": [
        ("RPUSH", KEY + "events", "1"),
        ("RPUSH", KEY + "batch:1", "1"),
        ("ZADD", KEY + "inflight", "1", "1"),
        ("SET", KEY + "lease", "me"),
        ("RPUSH", "rq:queue:mb:letters", "1"),
    ],
    "worker": [
        ("RPUSH", KEY + "events", "1"),
        ("XREAD", "STREAMS", KEY + "reply:" + "a" * 16, "0"),
        ("LRANGE", KEY + "events", "0", "-1"),
        ("SET", KEY + "lease", "me"),
        ("XREADGROUP", "GROUP", "handlers", "me", "STREAMS", KEY + "results", ">"),
        ("XDEL", KEY + "results", "1-1"),
    ],
    "scheduler": [
        ("XREADGROUP", "GROUP", "handlers", "me", "STREAMS", KEY + "results", ">"),
        ("XRANGE", KEY + "results", "-", "+"),
        ("XDEL", KEY + "results", "1-1"),
    ],
    "operator": [
        ("XREADGROUP", "GROUP", "handlers", "me", "STREAMS", KEY + "results", ">"),
        ("SET", KEY + "lease", "me"),
    ],
}
FORBIDDEN_TO_ALL: list[tuple[str, ...]] = [
    ("FLUSHALL",),
    ("KEYS", "*"),
    ("CONFIG", "SET", "appendonly", "no"),
    ("ACL", "WHOAMI"),
    ("GET", "mb:{numbers}:lease"),
    ("RPUSH", "mb:{numbers}:events", "1"),
    ("SHUTDOWN",),
]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_can_do_more_than_it_needs(guarded: RealServer, role: str) -> None:
    guarded.admin.rpush(KEY + "events", encode_event(b'"x"', 1))
    with redis.Redis.from_url(url_of(guarded, role), retry=None) as client:
        for words in (*FORBIDDEN[role], *FORBIDDEN_TO_ALL):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can't|ACL failure"):
                client.execute_command(*words)
    assert guarded.admin.keys() == [(KEY + "events").encode()]
