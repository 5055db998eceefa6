"""`microbatch status` and `microbatch flush`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from microbatch.broker.broker import Broker
from microbatch.producer import Config
from microbatch.worker.runner import BatchRunner
from tests.conftest import Command, MakeServer
from tests.processes import clean_environment, script
from tests.servers import RealServer
from tests.unit.replies import EXPIRED_MS, Client
from tests.unit.steps import cut
from tests.waiting import wait_until

NO_FILE = "there is no append-only file: what the server holds is lost when it ends; set appendonly yes"


def test_a_batcher_that_nobody_has_used(command: Command, server: RealServer) -> None:
    status = command("microbatch", "status", "letters", "--json", url=server.url)
    assert status.wait() == 0, status.output
    (line,) = status.stdout
    found = json.loads(line)
    assert found.pop("at")
    assert found == {
        "batcher": "letters",
        "server": server.url,
        "waiting": {"events": 0, "oldest_age_ms": None},
        "in_flight": {"events": 0, "batches": 0, "oldest_age_ms": None},
        "done": {"events": 0, "batches": 0},
        "dead": {"events": 0, "batches": 0},
        "expired": {"events": 0},
        "unhandled_results": 0,
        "rates": {"recorded_per_second": 0.0, "done_per_second": 0.0},
        "scheduler": {"active": None, "standby": []},
        "workers": [],
        "settings": None,
        "held_back": None,
        "neglected": None,
        "risks": [NO_FILE],
    }
    assert not server.admin.keys("*")  # looking changes nothing


def test_each_way_to_lose_events_is_named_there_and_when_a_scheduler_starts(
    command: Command, letters: str, make_server: MakeServer
) -> None:
    lossy = ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru"]
    server = make_server("redis", arguments=lossy)
    scheduler = command("microbatch", "scheduler", letters, url=server.url)
    scheduler.wait_for_line("active")
    status = command("microbatch", "status", "letters", "--json", url=server.url)
    assert status.wait() == 0, status.output
    (line,) = status.stdout
    evicts, loses_a_second = json.loads(line)["risks"]
    assert evicts.startswith("maxmemory-policy is allkeys-lru")
    assert loses_a_second.startswith("appendfsync is everysec")
    assert evicts in scheduler.output
    assert loses_a_second in scheduler.output


def test_it_tells_where_all_events_are(command: Command, letters: str, server: RealServer) -> None:
    scheduler = command("microbatch", "scheduler", letters, url=server.url)
    scheduler.wait_for_line("active")
    assert (
        command("microbatch", "record", "letters", "--create", stdin='"a"\n' * 4, url=server.url).wait() == 0
    )
    wait_until(lambda: server.admin.llen("mb:{letters}:events") == 0)
    found = json_status(command, server)
    assert found["in_flight"]["events"] == 4  # there is no worker
    assert found["in_flight"]["batches"] == 2
    assert 0 < found["in_flight"]["oldest_age_ms"] < 20_000
    assert found["settings"] == {"frequency": 200, "max_size": 3, "max_in_flight": 1000}
    assert found["scheduler"]["active"].endswith(f":{scheduler.pid}")

    command("microbatch", "worker", letters, "--concurrency", "2", url=server.url)
    wait_until(lambda: json_status(command, server)["done"]["batches"] == 2)
    scheduler.terminate()
    assert scheduler.wait() == 0
    assert command("microbatch", "record", "letters", "--create", stdin='"a"\n', url=server.url).wait() == 0
    found = json_status(command, server)
    assert found["waiting"]["events"] == 1
    assert 0 <= found["waiting"]["oldest_age_ms"] < 20_000
    assert found["done"] == {"events": 4, "batches": 2}
    assert found["unhandled_results"] == 2
    assert found["scheduler"] == {"active": None, "standby": []}
    wait_until(lambda: workers(json_status(command, server)) == [("idle", None)] * 2)

    table = command("microbatch", "status", letters, url=server.url)
    assert table.wait() == 0
    rows = [line.split() for line in table.stdout]
    assert ["done", "4", "2"] in rows
    assert ["results", "to", "handle", "2"] in rows
    assert any(row[:3] == ["scheduler", "none,", "standing"] for row in rows)


def test_events_that_have_expired_are_counted(command: Command, server: RealServer) -> None:
    config = Config(name="letters", redis_url=server.url, per_event=True, batch_processor=list)
    broker = Broker(config)
    client = Client(broker)
    client.submit(1, 2, expires_at_ms=EXPIRED_MS)
    client.submit(3)
    assert BatchRunner(config, broker=broker).run(cut(broker, 3)[0].id).text == "done"
    broker.close()
    found = json_status(command, server)
    assert (found["done"], found["expired"]) == ({"events": 1, "batches": 1}, {"events": 2})
    table = command("microbatch", "status", "letters", url=server.url)
    assert table.wait() == 0, table.output
    assert ["expired", "2"] in [line.split() for line in table.stdout]
    verify = command("microbatch", "verify", "letters", url=server.url)
    assert verify.wait() == 0, verify.output
    assert "all is accounted for" in verify.output


def workers(found: dict[str, Any]) -> list[tuple[str, str | None]]:
    """The state and the batch of each worker, which may be a second old."""
    return [(worker["state"], worker["batch"]) for worker in found["workers"]]


def test_it_says_that_nobody_comes_for_results(command: Command, valkey_server: RealServer) -> None:
    valkey_server.admin.xadd("mb:{letters}:results", {"result": "1"}, id="1000-1")  # the year 1970
    text = "1 result or failure waits for a handler, the oldest for "
    said = json_status(command, valkey_server)["neglected"]
    assert said.startswith(text)
    assert said.endswith(" h, and there is no consumer")
    table = command("microbatch", "status", "letters", url=valkey_server.url)
    assert table.wait() == 0
    assert any(line.startswith(f"neglected  {text}") for line in table.stdout)
    verify = command("microbatch", "verify", "letters", url=valkey_server.url)
    assert verify.wait() == 1
    assert any(line.startswith(f"mb:{{letters}}:results: {text}") for line in verify.stdout)
    valkey_server.admin.delete("mb:{letters}:results")
    assert json_status(command, valkey_server)["neglected"] is None


def test_it_shows_no_password(command: Command, make_server: MakeServer) -> None:
    server = make_server("valkey", tcp=True, password="hunter2")
    make_known(server)
    for arguments in (["status", "letters"], ["status", "letters", "--json"], ["flush", "letters"]):
        process = command("microbatch", *arguments, url=server.url)
        assert process.wait() == 0, process.output
        assert "hunter2" not in process.output


def test_a_worker_that_rq_cannot_read_is_told_in_one_line(
    command: Command, valkey_server: RealServer
) -> None:
    valkey_server.admin.sadd("rq:workers:mb:letters", "rq:worker:forged")
    valkey_server.admin.hset("rq:worker:forged", "last_heartbeat", "soon")
    make_known(valkey_server)
    process = command("microbatch", "status", "letters", url=valkey_server.url)
    assert process.wait() == 2
    (line,) = process.lines
    assert line.startswith("microbatch: error: RQ can't read the workers in rq:workers:mb:letters: ")


def test_watching_repeats_until_ctrl_c(command: Command, valkey_server: RealServer) -> None:
    make_known(valkey_server)
    watch = command("microbatch", "status", "letters", "--json", "--watch", url=valkey_server.url)
    wait_until(lambda: len(watch.stdout) >= 2)
    assert all(json.loads(line)["batcher"] == "letters" for line in list(watch.stdout))
    watch.interrupt()
    assert watch.wait() == 130
    assert watch.stderr == []


def test_watching_ends_when_nobody_reads_it(valkey_server: RealServer) -> None:
    make_known(valkey_server)
    words = [script("microbatch"), "status", "letters", "--json", "--watch"]
    environment = clean_environment({"MICROBATCH_REDIS_URL": valkey_server.url})
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


def test_flush_cuts_what_waits(command: Command, rare: str, valkey_server: RealServer) -> None:
    url = valkey_server.url
    command("microbatch", "scheduler", rare, url=url).wait_for_line("active")
    command("microbatch", "worker", rare, url=url)
    assert command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n', url=url).wait() == 0
    flush = command("microbatch", "flush", "letters", url=url)
    assert flush.wait() == 0
    assert flush.stdout == ["flush: 2 events waited"]
    assert flush.stderr == []
    results = command("microbatch", "results", "letters", url=url)
    assert results.wait() == 0
    (line,) = map(json.loads, results.stdout)
    assert (line["trigger"], line["result"]) == ("flush", 3)


def test_flush_without_a_scheduler_says_so(command: Command, valkey_server: RealServer) -> None:
    make_known(valkey_server)
    flush = command("microbatch", "flush", "letters", url=valkey_server.url)
    assert flush.wait() == 0
    assert flush.stdout == ["flush: 0 events waited"]
    (line,) = flush.stderr
    assert line.startswith("microbatch flush: no scheduler is active")


def make_known(server: RealServer) -> None:
    """Write the settings that a scheduler leaves behind."""
    server.admin.hset("mb:{letters}:config", mapping={"frequency": 1000, "max_size": 10})


def json_status(command: Command, server: RealServer) -> dict[str, Any]:
    process = command("microbatch", "status", "letters", "--json", url=server.url)
    assert process.wait() == 0, process.output
    found: dict[str, Any] = json.loads(process.stdout[0])
    return found
