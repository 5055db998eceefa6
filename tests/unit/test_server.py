"""One server: what is sent to it, and what comes back."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import fakeredis
import pytest
import redis

from microbatch.broker.errors import InDoubt, Refused, Unavailable, Unsupported
from microbatch.broker.lua import scripts
from microbatch.broker.transport.request import call, commands, info, transaction
from microbatch.broker.transport.server import Server
from tests.unit.steps import FakeClient


@pytest.fixture
def server(client: FakeClient) -> Server:
    return Server(client, "redis://cache")


def test_do_sends_a_command(server: Server) -> None:
    assert server.do("RPUSH", "list", b"\xff", 5) == 2
    assert server.do("LRANGE", "list", 0, -1) == [b"\xff", b"5"]


def test_many_sends_commands_together(server: Server, client: FakeClient) -> None:
    for together in (commands, transaction):
        asked = together(("SET", "a", 1), ("INCR", "a"), ("GET", "a"))
        assert server.perform(asked) == [b"OK", 2, b"2"]
        with pytest.raises(Refused, match="WRONGTYPE"):
            server.perform(together(("SET", "b", 1), ("LPUSH", "a", 1)))
    with pytest.raises(Refused, match="wrong number of arguments"):
        server.perform(transaction(("SET", "c", 1), ("LPUSH", "a")))
    assert client.get("c") is None


def test_a_script_is_loaded_when_it_is_not_known(server: Server, client: FakeClient) -> None:
    script = scripts.RENEW_LEASE
    for _ in range(2):
        assert server.perform(call(script, ["lease"], ("token", 5_000))) == 0
        assert client.script_exists(script.sha) == [True]
        client.script_flush()
    client.set("lease", "token")
    assert server.perform(call(script, ["lease"], ("token", 5_000))) == 1


def test_every_script_has_its_file_and_says_what_it_does() -> None:
    loaded = [value for value in vars(scripts).values() if isinstance(value, scripts.Script)]
    folder = files("microbatch.broker.lua")
    named = sorted(file.name for file in folder.iterdir() if file.name.endswith(".lua"))
    assert sorted(f"{script.name}.lua" for script in loaded) == named
    for script in loaded:
        assert script.text.count(f"-- {script.name}: ") == 1
        assert script.keys.names or script.keys.tail
        assert re.search(r"-- (.*\. )?Returns\b", script.text)


class Failing:
    """A client whose commands fail. It is also its own pool and connection."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.connection_pool = self
        self.connected = True
        self.response_callbacks: dict[str, object] = {}

    def get_connection(self) -> Failing:
        return self

    def send_packed_command(self, packed: object) -> None:
        """The command is sent, and then something happens."""

    def read_response(self) -> None:
        raise self._error

    def disconnect(self, inuse_connections: bool = True) -> None:
        self.connected = False

    def release(self, connection: Failing) -> None:
        assert connection is self


@pytest.mark.parametrize(
    ("error", "translated"),
    [
        (redis.ConnectionError("gone"), InDoubt),
        (OSError("gone"), InDoubt),
        (redis.ResponseError("ERR"), Refused),
    ],
)
def test_errors_come_out_as_ours(error: Exception, translated: type[Exception]) -> None:
    client = Failing(error)
    server = Server(client, "redis://cache")  # type: ignore[arg-type]
    with pytest.raises(translated):
        server.do("PING")
    assert client.connected is (translated is Refused), "a reply that comes late is another's"
    client.connected = True
    with pytest.raises(translated):
        server.perform(call(scripts.CLAIM, ["batch"]))
    assert client.connected is (translated is Refused), "a reply that comes late is another's"
    with pytest.raises(translated), server.translated():
        raise error


def test_a_fake_server_that_is_away_is_in_doubt_or_unavailable() -> None:
    fake = fakeredis.FakeServer()
    server = Server(fakeredis.FakeRedis(server=fake))
    fake.connected = False
    with pytest.raises((InDoubt, Unavailable)):
        server.perform(commands(("PING",)))


class Info(Server):
    """A server that reports about itself what a test says."""

    def __init__(self, **info: str) -> None:
        super().__init__(fakeredis.FakeRedis(), "redis://cache")
        self._info = info

    def perform(self, asked: Any) -> Any:
        assert asked.packed == info("server").packed
        return self._info


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "7.0.0"},
        {"redis_version": "7.0.15"},
        {"redis_version": "8.2.1"},
        {"redis_version": "10.0"},
        {"redis_version": "7.2.4", "valkey_version": "7.2.5"},
        {"redis_version": "7.2.4", "valkey_version": "9.1.2"},
    ],
)
def test_a_server_that_is_new_enough(info: dict[str, str]) -> None:
    Info(**info).check_version()


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (
            {"redis_version": "6.2.14"},
            r"the server at redis://cache is Redis 6.2.14; .* Redis 7.0",
        ),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.9"}, "is Valkey 7.1.9; .* Valkey 7.2"),
        ({}, "is Redis 0;"),
    ],
)
def test_a_server_that_is_too_old(info: dict[str, str], message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        Info(**info).check_version()


def test_no_password_is_in_the_name_that_a_server_is_shown_by() -> None:
    assert Server.at("redis://me:hunter2@cache:6380").where == "redis://cache:6380"
