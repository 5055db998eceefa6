"""Connections: as many as it takes, and none that an interrupt has left half made."""

from __future__ import annotations

import threading

import pytest
from redis.connection import AbstractConnection

from microbatch.broker.server import Server
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


class Interrupt(Exception):
    """As a signal's handler raises one."""


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
