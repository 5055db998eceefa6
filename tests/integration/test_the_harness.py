"""The servers, processes and waits of the tests behave as the tests expect."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from tests.certificates import Certificates, make_certificates
from tests.conftest import MakeServer
from tests.key_guard import keys_left
from tests.processes import Process
from tests.programs import REQUIRE, missing, required
from tests.servers import Program, RealServer
from tests.waiting import wait_until

PROGRAMS = pytest.mark.parametrize("program", ["valkey", "redis"])


def test_each_test_gets_a_server_without_keys_and_clients(server: RealServer) -> None:
    with redis.Redis.from_url(server.url, retry=None) as client:
        client.set("mb:{letters}:events", "left")
        errors: list[Exception] = []

        def block() -> None:
            try:
                client.blpop(["mb:{letters}:wake"], timeout=0)
            except redis.ConnectionError as error:
                errors.append(error)

        blocked = threading.Thread(target=block)
        blocked.start()
        wait_until(lambda: server.admin.info("clients")["blocked_clients"])
        server.pause()
        server.refresh()
        blocked.join(10)
        assert errors
    assert server.admin.dbsize() == 0


@PROGRAMS
def test_tcp_and_password(make_server: MakeServer, program: Program) -> None:
    server = make_server(program, tcp=True, password="sesam")
    assert server.url == f"redis://:sesam@127.0.0.1:{server.port}/0"
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
    wrong = server.url.replace("sesam", "wrong")
    with redis.Redis.from_url(wrong) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@PROGRAMS
def test_tls(make_server: MakeServer, certificates: Certificates, tmp_path: Path, program: Program) -> None:
    server = make_server(program, tls=certificates, password="sesam")
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
    foreign = make_certificates(tmp_path)
    url = server.url.replace(quote(str(certificates.authority)), quote(str(foreign.authority)))
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError, match="certificate"):
        client.ping()


@PROGRAMS
def test_restart_keeps_the_address_and_what_is_appended(make_server: MakeServer, program: Program) -> None:
    server = make_server(program, tcp=True, appendonly=True, arguments=["--maxmemory", "50mb"])
    server.admin.set("test:key", "value")
    url, pid = server.url, server.pid
    server.kill()
    assert not server.running
    server.restart()
    assert (server.url, server.pid) != (url, pid)
    with redis.Redis.from_url(url) as client:
        assert client.get("test:key") == b"value"
        assert client.config_get("maxmemory")["maxmemory"] == str(50 * 2**20)


def test_the_guard_names_what_is_not_permanent(valkey_server: RealServer) -> None:
    admin = valkey_server.admin
    for part in ("config", "stats"):
        admin.hset(f"mb:{{letters}}:{part}", "field", "1")
    admin.xgroup_create("mb:{letters}:results", "handlers", mkstream=True)
    admin.set("mb:{letters}:lease", "token", px=60_000)
    admin.set("rq:queues", "RQ's own")
    assert keys_left(valkey_server) == []

    admin.persist("mb:{letters}:lease")
    admin.xadd("mb:{letters}:results", {"result": "1"})
    admin.rpush("mb:{letters}:batch:b1", "event")
    admin.set("typo", "")
    with redis.Redis.from_url(valkey_server.socket_url, db=3) as third:
        third.rpush("mb:{numbers}:events", "1")
    assert keys_left(valkey_server, leaves=["batch"]) == [
        "mb:{letters}:lease: string in database 0",
        "mb:{letters}:results: stream in database 0",
        "mb:{numbers}:events: list in database 3",
        "typo: string in database 0",
    ]
    valkey_server.refresh()


@pytest.mark.leaves("events")
def test_a_test_may_leave_what_it_says(valkey_server: RealServer) -> None:
    valkey_server.admin.rpush("mb:{letters}:events", "1")


def test_a_process_is_read_line_by_line_and_ended_with_its_children() -> None:
    program = """
import subprocess, sys
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
print("read", sys.stdin.readline(), flush=True)
child.wait()
"""
    with Process([sys.executable, "-c", program], stdin="a line\n") as process:
        assert process.wait_for_line("read (.*)")[1] == "a line"
        assert process.stdout[0] == "to stdout"
        process.wait_for_line("to stderr")
        assert process.stderr == ["to stderr"]
        assert len(process.children()) == 1
        with pytest.raises(AssertionError, match="to stdout"):
            process.wait_for_line("never", timeout=0.01)
    assert not process.running


def test_a_process_that_ends_is_not_waited_for() -> None:
    started = time.monotonic()
    with Process([sys.executable, "-c", "print('done'); raise SystemExit(3)"]) as process:
        with pytest.raises(AssertionError, match="ended without"):
            process.wait_for_line("never", timeout=60)
        assert process.wait() == 3
    assert time.monotonic() - started < 30


def test_waiting_names_what_did_not_come() -> None:
    with pytest.raises(AssertionError, match="for Godot"):
        wait_until(lambda: False, timeout=0.01, message="Godot")
    assert wait_until(lambda: "value") == "value"


def test_a_missing_program_skips_unless_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        missing("chromium", "no browser")
    monkeypatch.setenv(REQUIRE, "redis-server, chromium")
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        missing("chromium", "no browser")
    monkeypatch.setenv(REQUIRE, "cromium")
    with pytest.raises(ValueError, match="cromium unknown"):
        required()
