"""Every way to write a server's address works, and an address that fails is reported without its password."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.errors import InDoubt, Refused, Unavailable
from microbatch.producer import Config, connect, start
from tests.certificates import Certificates
from tests.conftest import MakeServer
from tests.fleet import Fleet
from tests.sentinel import SERVICE, Sentinel
from tests.servers import LOCALHOST, Program, RealServer, free_port
from tests.waiting import wait_until

PROGRAMS = pytest.mark.parametrize("program", ["valkey", "redis"])
PLAIN_AND_TLS = pytest.mark.parametrize(
    ("program", "tls"), [("valkey", False), ("redis", True)], ids=["plain", "tls"]
)
PASSWORDS = pytest.mark.parametrize("password", [None, "s:e/s@m 1%"])


def assert_path_works(server: RealServer, folder: Path, **settings: str) -> None:
    """An event gets from its recording to the handler, in a producer, a scheduler and a worker."""
    results: list[int] = []
    with Fleet(server, folder, **settings) as fleet:
        fleet.worker()
        fleet.scheduler()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_events([1, 2, 4])
        fleet.finish(mb)
    assert results == [7]


@PROGRAMS
@PASSWORDS
@pytest.mark.parametrize("tcp", [False, True])
def test_unix_sockets_and_tcp(
    make_server: MakeServer, tmp_path: Path, program: Program, password: str | None, *, tcp: bool
) -> None:
    assert_path_works(make_server(program, tcp=tcp, password=password), tmp_path)


def test_tls(make_server: MakeServer, certificates: Certificates, tmp_path: Path) -> None:
    assert_path_works(make_server("redis", tls=certificates, password="sesam"), tmp_path)


@PROGRAMS
def test_an_acl_user(make_server: MakeServer, tmp_path: Path, program: Program) -> None:
    server = make_server(program, tcp=True)
    rules = ["~mb:*", "~rq:*", "&rq:*", "+@all", "-@admin", "-@dangerous", "+info", "+client|unblock"]
    server.admin.execute_command("ACL", "SETUSER", "batches", "on", ">sesam", *rules)
    url = server.url.replace("redis://", "redis://batches:sesam@")
    assert_path_works(server, tmp_path, redis_url=url)


@PROGRAMS
@pytest.mark.parametrize("given", ["", ":guessed@", "somebody:guessed@"])
def test_a_wrong_password(make_server: MakeServer, tmp_path: Path, program: Program, given: str) -> None:
    server = make_server(program, tcp=True, password="sesam")
    url = f"redis://{given}{LOCALHOST}:{server.port}/0"
    with Fleet(server, tmp_path) as fleet:
        with pytest.raises(Refused, match="MICROBATCH_REDIS_URL") as raised:
            start(fleet.config(redis_url=url))
        worker = fleet.worker(redis_url=url)
        assert worker.wait() == 2
    for said in (str(raised.value), worker.output):
        assert "password" in said
        assert "guessed" not in said
        assert "Traceback" not in said
    assert len(worker.lines) == 1, worker.output


def test_no_server(valkey_server: RealServer, tmp_path: Path) -> None:
    url = f"redis://:secret@{LOCALHOST}:{free_port()}/0"
    with Fleet(valkey_server, tmp_path) as fleet:
        started = time.monotonic()
        with pytest.raises(Unavailable, match=f"no server answers at redis://{LOCALHOST}") as raised:
            start(fleet.config(redis_url=url), wait=0)
        assert time.monotonic() - started < 3
        worker = fleet.worker(redis_url=url)
        assert worker.wait() == 2
        assert len(worker.lines) == 1, worker.output
    assert "secret" not in str(raised.value) + worker.output


@PROGRAMS
@PASSWORDS
def test_sentinel(make_server: MakeServer, tmp_path: Path, program: Program, password: str | None) -> None:
    server = make_server(program, tcp=True, password=password)
    with Sentinel(program, tmp_path, server) as sentinel:
        assert_path_works(server, tmp_path, redis_url=sentinel.url)
        unknown = sentinel.url.replace(SERVICE, "numbers-db")
        with Fleet(server, tmp_path) as fleet, pytest.raises(Unavailable, match="numbers-db") as raised:
            start(fleet.config(redis_url=unknown), wait=0)
        assert str(raised.value).endswith(
            f"no Sentinel names the master of 'numbers-db' ({LOCALHOST}:1: Error 111 connecting to "
            f"{LOCALHOST}:1. Connection refused.; {LOCALHOST}:{sentinel.port}: never heard of it)"
        )


def test_sentinel_with_tls(make_server: MakeServer, certificates: Certificates, tmp_path: Path) -> None:
    server = make_server("redis", tls=certificates, password="sesam")
    with Sentinel("redis", tmp_path, server) as sentinel:
        assert_path_works(server, tmp_path, redis_url=sentinel.url)
        distrusted = sentinel.url.partition("?")[0]
        with Fleet(server, tmp_path) as fleet, pytest.raises(Unavailable, match=r"(?i)certificate"):
            start(fleet.config(redis_url=distrusted), wait=0)


@PLAIN_AND_TLS
def test_all_go_on_at_the_server_that_sentinel_makes_the_next(
    make_server: MakeServer, certificates: Certificates, tmp_path: Path, program: Program, tls: bool
) -> None:
    options: dict[str, Any] = {"tls": certificates} if tls else {"tcp": True}
    first = make_server(program, **options)
    second = make_server(program, **options, arguments=["--replicaof", LOCALHOST, str(first.port)])
    results: list[int] = []
    with (
        Sentinel(program, tmp_path, first) as sentinel,
        Fleet(second, tmp_path, redis_url=sentinel.url) as fleet,
    ):
        worker, scheduler = fleet.worker(), fleet.scheduler_process()
        mb = fleet.batcher(result_handler=results.append)
        mb.record_event(1)
        wait_until(lambda: mb.wait_for_results(0.05) or results)
        wait_until(lambda: sentinel.replicas() == 1)
        assert first.admin.wait(1, 5_000) == 1
        first.kill()

        def record() -> bool:
            try:
                mb.record_event(2)
            except (Unavailable, InDoubt, Refused):
                return False
            return True

        wait_until(record, 30)
        fleet.finish(mb)
        assert worker.running
        assert scheduler.running
        assert second.admin.info("replication")["role"] == "master"
    assert results == [1, 2]


async def refused(config: Config) -> str:
    with pytest.raises(Unavailable) as raised:
        await connect(config, wait=0).__aenter__()
    return str(raised.value)


@PLAIN_AND_TLS
@pytest.mark.leaves("events")
def test_an_asyncio_client_goes_on_at_the_server_that_sentinel_makes_the_next(
    make_server: MakeServer, certificates: Certificates, tmp_path: Path, program: Program, tls: bool
) -> None:
    options: dict[str, Any] = {"tls": certificates} if tls else {"tcp": True}
    first = make_server(program, **options, password="sesam")
    to_first = ["--replicaof", LOCALHOST, str(first.port), "--masterauth", "sesam"]
    second = make_server(program, **options, password="sesam", arguments=to_first)

    async def record(config: Config) -> None:
        async with connect(config) as mb:
            await mb.record_event(1)
            await asyncio.to_thread(wait_until, lambda: sentinel.replicas() == 1)
            assert first.admin.wait(1, 5_000) == 1
            first.kill()
            while True:
                try:
                    return await mb.record_event(2)
                except (Unavailable, InDoubt, Refused):
                    await asyncio.sleep(0.05)

    with (
        Sentinel(program, tmp_path, first) as sentinel,
        Fleet(second, tmp_path, redis_url=sentinel.url) as fleet,
    ):
        unknown = fleet.config(redis_url=sentinel.url.replace(SERVICE, "numbers-db"))
        assert asyncio.run(refused(unknown)).endswith(
            f"no Sentinel names the master of 'numbers-db' ({LOCALHOST}:1: Error 111 connecting to "
            f"{LOCALHOST}:1. Connect call failed ('{LOCALHOST}', 1).; "
            f"{LOCALHOST}:{sentinel.port}: never heard of it)"
        )
        asyncio.run(record(fleet.config()))
        assert second.admin.info("replication")["role"] == "master"
        assert fleet.broker.events.waiting() >= 2  # a record that was in doubt may be there as well
