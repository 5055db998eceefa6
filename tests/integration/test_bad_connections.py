"""Connections that have become useless: to a server that was demoted, or dropped by a firewall."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from microbatch.broker.errors import InDoubt, Refused, ServerError, Unsupported
from microbatch.broker.transport.listener import Listener
from microbatch.broker.transport.request import command
from microbatch.broker.transport.server import Server
from microbatch.producer import Config, start
from tests.conftest import MakeServer
from tests.fleet import ECHO, Fleet
from tests.proxy import Proxy
from tests.servers import LOCALHOST, RealServer
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("events", "wake")

CONSUMER = """\
import logging
from microbatch.producer import Config, start
logging.basicConfig(level="INFO", format="%(message)s")
start(Config()).wait_for_results()
"""


@pytest.mark.parametrize("way", ["record_event", "record_events", "with an id"])
def test_a_producer_finds_the_server_that_took_over_at_the_same_address(
    make_server: MakeServer, way: str
) -> None:
    old, new = make_server("valkey"), make_server("valkey")
    proxy = Proxy(old)
    with proxy, start(Config(name="letters", redis_url=proxy.url, dedupe_window=1)) as mb:
        mb.record_event(1)
        proxy._server = new  # what happens behind a DNS name or a load balancer; connections stay open
        old.admin.execute_command("REPLICAOF", LOCALHOST, "1")
        with pytest.raises(Refused, match="read only replica"):
            mb.record_event(2)
        match way:
            case "record_event":
                mb.record_event(3)
            case "record_events":
                mb.record_events([3])
            case _:
                mb.record_event(3, id="three")
        assert new.admin.llen("mb:{letters}:events") == 1
    new.admin.delete("mb:{letters}:seen")


def test_after_one_dropped_connection_all_are_reopened(valkey_server: RealServer) -> None:
    with Proxy(valkey_server) as proxy:
        server = Server.at(proxy.url)
        server.client.connection_pool.connection_kwargs["socket_timeout"] = 1.0

        def ask_at_the_same_time(count: int) -> list[object]:
            barrier, errors = threading.Barrier(count), list[object]()

            def ask() -> None:
                barrier.wait()
                try:
                    server.do("BLPOP", "nothing", 0.2)
                except ServerError as error:
                    errors.append(error)

            threads = [threading.Thread(target=ask) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return errors

        assert ask_at_the_same_time(5) == []
        proxy.drop_links()
        with pytest.raises(InDoubt):
            server.do("PING")
        assert ask_at_the_same_time(5) == []
        server.close()


@pytest.mark.parametrize("role", ["worker", "scheduler", "consumer"])
def test_every_role_notices_dropped_connections_within_12_seconds(
    valkey_server: RealServer, tmp_path: Path, role: str
) -> None:
    with Proxy(valkey_server) as proxy, Fleet(valkey_server, tmp_path, ECHO) as fleet:
        match role:
            case "worker":
                process = fleet.worker(redis_url=proxy.url)
                fleet.scheduler()
            case "scheduler":
                process = fleet.scheduler_process(redis_url=proxy.url)
                fleet.worker()
            case _:
                process = fleet.run(CONSUMER, redis_url=proxy.url)
                fleet.worker()
                fleet.scheduler()
        fleet.batcher().record_event(1)
        wait_until(lambda: fleet.broker.stats.counters().done_events == 1, message=lambda: process.output)
        wait_until(lambda: valkey_server.admin.xlen(fleet.broker.keys.results) == int(role != "consumer"))
        time.sleep(1.5)
        proxy.drop_links()
        began = time.monotonic()
        fleet.batcher().record_event(2)
        done = 2 if role != "consumer" else 0
        wait_until(
            lambda: (
                fleet.broker.stats.counters().done_events == 2
                and (done or not valkey_server.admin.xlen(fleet.broker.keys.results))
            ),
            30,
        )
        process.wait_for_line("answers again")
        assert time.monotonic() - began < 12
        assert len([line for line in process.lines if "broke before" in line]) == 1
        valkey_server.admin.delete(fleet.broker.keys.results)


def test_a_wait_on_a_dead_connection_ends_when_it_is_asked_to(valkey_server: RealServer) -> None:
    """The server ends the wait, and its reply goes nowhere."""
    with Proxy(valkey_server) as proxy, ThreadPoolExecutor(1) as threads:
        server = Server.at(proxy.url)
        listener = Listener(server, reply_seconds=0.5)
        waiting = threads.submit(listener.perform, command("BLPOP", "test:nothing", 5))
        wait_until(lambda: any(each["cmd"] == "blpop" for each in valkey_server.admin.client_list()))
        proxy.drop_links()
        listener.wake()
        assert isinstance(waiting.exception(60), InDoubt)
        assert isinstance(listener.perform(command("PING")), bytes)
        server.close()


def test_cluster_mode_is_refused_at_the_start(make_server: MakeServer) -> None:
    server = make_server("valkey", arguments=["--cluster-enabled", "yes"], tcp=True)
    with pytest.raises(Unsupported, match=f"{server.port}.* is in cluster mode"):
        start(Config(name="letters", redis_url=server.url))


def test_the_health_check_of_the_url_is_applied(valkey_server: RealServer) -> None:
    server = Server.at(f"{valkey_server.url}?health_check_interval=1")
    server.do("GET", "a")
    time.sleep(1.1)
    before = pings(valkey_server)
    server.do("GET", "a")
    assert pings(valkey_server) == before + 1
    server.close()


def pings(server: RealServer) -> int:
    return int(server.admin.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"])
