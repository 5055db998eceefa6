"""The proxy: what it holds back and eats. It outlives its server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis

from tests.proxy import Proxy
from tests.servers import RealServer


@pytest.fixture
def proxy(valkey_server: RealServer) -> Iterator[Proxy]:
    with Proxy(valkey_server) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(proxy.url, retry=None) as client:
        yield client


def test_a_reply_is_eaten_after_its_command_was_done(
    proxy: Proxy, client: redis.Redis, valkey_server: RealServer
) -> None:
    proxy.eat_reply_to("INCR", "test:count")
    with pytest.raises(redis.ConnectionError):
        client.incr("test:count")
    assert proxy.eaten.is_set()
    assert valkey_server.admin.get("test:count") == b"1"
    assert client.incr("test:count") == 2


def test_a_reply_that_was_spared_is_not_eaten(proxy: Proxy, client: redis.Redis) -> None:
    proxy.eat_reply_to("INCR")
    proxy.eat_nothing()
    assert client.incr("test:count") == 1
    assert not proxy.eaten.is_set()


def test_what_was_held_back_in_a_silence_comes_after_it(proxy: Proxy, client: redis.Redis) -> None:
    client.ping()
    proxy.go_silent()
    replies: list[object] = []
    thread = threading.Thread(target=lambda: replies.append(client.incr("test:count")))
    thread.start()
    thread.join(0.2)
    assert replies == []
    proxy.go_on()
    thread.join()
    assert replies == [1]


def test_a_silence_may_end_with_cut_connections(proxy: Proxy, client: redis.Redis) -> None:
    client.ping()
    proxy.go_silent()
    errors: list[Exception] = []

    def ask() -> None:
        try:
            client.incr("test:count")
        except redis.ConnectionError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(0.2)
    proxy.go_on(hang_up=True)
    thread.join()
    assert len(errors) == 1
    assert client.ping()


def test_it_outlives_its_server(proxy: Proxy, client: redis.Redis, valkey_server: RealServer) -> None:
    assert client.ping()
    valkey_server.kill()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    valkey_server.start()
    assert client.ping()
