"""Connections: enough for all threads, and none that an interrupt has left half open."""

from __future__ import annotations

import threading
from importlib.metadata import version

import pytest
from redis.connection import AbstractConnection

from microbatch.broker.broker import Broker
from microbatch.broker.state.results import Entry
from microbatch.broker.transport.listener import Listener
from microbatch.broker.transport.server import Server
from microbatch.producer import Config, start
from tests.servers import RealServer
from tests.waiting import wait_until

pytestmark = pytest.mark.leaves("events", "wake")

THREADS = 150  # more than the connections that redis-py would allow


def test_many_threads_may_wait_for_a_slow_server(valkey_server: RealServer) -> None:
    with start(Config(name="letters", redis_url=valkey_server.url)) as mb:
        threads = [threading.Thread(target=mb.record_event, args=(number,)) for number in range(THREADS)]
        valkey_server.pause()
        for thread in threads:
            thread.start()
        valkey_server.resume()
        for thread in threads:
            thread.join()
    assert valkey_server.admin.llen("mb:{letters}:events") == THREADS


def test_a_connection_is_shown_as_microbatch_s(valkey_server: RealServer) -> None:
    server = Server.at(valkey_server.url)
    assert server.do("PING")
    names = [client["lib-name"] for client in valkey_server.admin.client_list(_type="normal")]
    assert names.count(f"redis-py(microbatch_v{version('microbatch')})") == 1
    server.close()


class Interrupt(Exception):
    """An exception like one from a signal handler."""


def test_a_connection_whose_making_was_interrupted_is_made_again(
    valkey_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_connection: object, **_options: object) -> None:
        raise Interrupt

    server = Server.at(valkey_server.url)
    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "on_connect_check_health", interrupt)
        with pytest.raises(Interrupt):
            server.do("GET", "a")
    assert server.do("GET", "a") is None
    server.close()
    wait_until(lambda: len(valkey_server.admin.client_list(_type="normal")) == 1)


def test_nobody_else_gets_the_reply_to_an_interrupted_command(
    valkey_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_connection: object, **_options: object) -> None:
        raise Interrupt

    server = Server.at(valkey_server.url)
    server.do("SET", "a", 1)
    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "read_response", interrupt)
        with pytest.raises(Interrupt):
            server.do("BLPOP", "b", 0.2)
    assert server.do("GET", "a") == b"1"
    valkey_server.admin.delete("a")
    server.close()


def test_a_wait_for_results_can_be_ended_after_one_that_was_interrupted(
    valkey_server: RealServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(connection: AbstractConnection, **_options: object) -> None:
        connection.disconnect()  # as redis-py does during a read
        raise Interrupt

    broker = Broker(Config(name="letters", redis_url=valkey_server.url))
    results, listener = broker.results(), Listener(broker.server)
    results.prepare()

    def wait(wait_ms: int) -> list[Entry]:
        return listener.perform(results.wait.asked(count=1, wait_ms=wait_ms))

    assert wait(1) == []
    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "read_response", interrupt)
        with pytest.raises(Interrupt):
            wait(1)
    thread = threading.Thread(target=wait, args=(5_000,))
    thread.start()
    wait_until(lambda: valkey_server.admin.info("clients")["blocked_clients"] == 1)
    listener.wake()
    thread.join(2.5)
    assert not thread.is_alive()
    results.leave_group()
    listener.close()
    broker.close()
