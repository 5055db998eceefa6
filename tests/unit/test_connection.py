"""URLs of servers, and how redis-py's errors are translated."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from microbatch.broker.errors import ConfigError, InDoubt, Refused, RefusedForNow, ServerError, Unavailable
from microbatch.broker.transport.connection import open_client, translate
from microbatch.broker.transport.url import safe_url


def options(url: str) -> dict[str, Any]:
    found: dict[str, Any] = open_client(url).connection_pool.connection_kwargs
    return found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", {"host": "cache"}),
        ("redis://cache:6380/3", {"host": "cache", "port": 6380, "db": 3}),
        ("redis://:se%40cret@cache", {"host": "cache", "password": "se@cret"}),
        ("redis://me:secret@cache?db=4", {"username": "me", "password": "secret", "db": 4}),
        ("unix:///run/valkey.sock?db=2", {"path": "/run/valkey.sock", "db": 2}),
        ("unix://me:secret@/run/valkey.sock", {"path": "/run/valkey.sock", "password": "secret"}),
        ("rediss://cache?ssl_ca_path=/etc", {"host": "cache", "ssl_ca_path": "/etc"}),
    ],
)
def test_a_url_says_where_and_as_whom(url: str, expected: dict[str, object]) -> None:
    found = options(url)
    assert {name: found[name] for name in expected} == expected


def test_tls_is_used_where_the_url_says_so() -> None:
    plain, tls = open_client("redis://cache"), open_client("rediss://cache")
    assert not issubclass(plain.connection_pool.connection_class, redis.SSLConnection)
    assert issubclass(tls.connection_pool.connection_class, redis.SSLConnection)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "rediss://cache",
        "unix:///run/valkey.sock",
        "redis://cache?health_check_interval=5",
        "redis+sentinel://one:1/main",
    ],
)
def test_no_connection_ever_sends_anything_twice(url: str) -> None:
    connection: Any = open_client(url).connection_pool.make_connection()
    assert connection.retry.get_retries() == 0
    assert connection.socket_timeout == 10
    assert connection.protocol in (2, "2")
    assert not connection.encoder.decode_responses


def test_sentinel_hosts_service_database_and_login() -> None:
    client = open_client("redis+sentinel://me:se%40cret@one:26379,two:26380,three/main/3")
    pool: Any = client.connection_pool
    assert pool.service_name == "main"
    hosts = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(host["host"], host["port"]) for host in hosts] == [
        ("one", 26379), ("two", 26380), ("three", 26379),
    ]  # fmt: skip
    found = pool.connection_kwargs
    assert (found["username"], found["password"], found["db"]) == ("me", "se@cret", 3)
    assert all(host["retry"].get_retries() == 0 for host in hosts)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_tls_is_for_the_master_and_its_sentinels_alike(scheme: str) -> None:
    ca = {"ssl_ca_path": "/etc"} if scheme == "rediss" else {}
    query = "&".join(f"{name}={value}" for name, value in ca.items())
    master: Any = open_client(f"{scheme}+sentinel://one:1,two:2/main?db=4&{query}").connection_pool
    sentinels = [one.connection_pool for one in master.sentinel_manager.sentinels]
    assert len(sentinels) == 2
    for pool in (master, *sentinels):
        assert issubclass(pool.connection_class, redis.SSLConnection) == (scheme == "rediss")
        assert ca.items() <= pool.connection_kwargs.items()
    assert master.connection_kwargs["db"] == 4


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "unknown scheme ''"),
        ("cache:6379", "unknown scheme 'cache://'"),
        ("http://cache", "unknown scheme 'http://'"),
        ("redis://cache:port", "not a port"),
        ("redis://cache:99999", "not a port"),
        ("redis://cache/letters", "the database is a number"),
        ("redis://[::1", "can't be read as a URL"),
        ("unix://run/valkey.sock", "the host is not where it should be"),
        ("redis+sentinel://one:26379", "a Sentinel URL names its service"),
        ("redis+sentinel://one:port/main", "not a port"),
    ],
)
def test_a_url_that_will_not_do_is_refused_in_one_line(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^redis_url: (?!redis_url).*{message}.*use redis://") as caught:
        open_client(url)
    assert "\n" not in str(caught.value)


PASSWORDS = [
    "hunter2",
    "hun/ter2",
    "hun#ter2",
    "hun?ter2",
    "12/hunter2",
    "hun@ter2",
    "[hunter2",
    "[hunter2]",
    "hun:ter2",
]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize(
    "form",
    [
        "redis://:{}@cache:6379/0",
        "redis://me:{}@cache",
        "rediss://me:{}@cache",
        "redis+sentinel://me:{}@one:1,two:2/main",
        "unix://me:{}@/run/valkey.sock",
        "http://me:{}@cache",
        "me:{}@cache",
    ],
)
def test_no_part_of_a_password_is_ever_shown(form: str, password: str) -> None:
    """Not even if it is not percent-encoded correctly, and the URL is split at odd places."""
    url = form.format(password)
    shown = []
    for show in (safe_url, open_client):
        try:
            result = show(url)
        except ConfigError as error:
            shown.append(str(error))
        else:
            shown.append(result if isinstance(result, str) else "")
    assert not [text for text in shown if "hun" in text or "ter2" in text or "12" in text.split("use ")[0]]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@cache:6380/3", "redis://cache:6380/3"),
        ("rediss://cache?password=secret", "rediss://cache"),
        ("unix://me:secret@/run/valkey.sock?db=1", "unix:///run/valkey.sock"),
        ("redis+sentinel://me:secret@one:1,two:2/main/3", "redis+sentinel://one:1,two:2/main/3"),
    ],
)
def test_a_url_is_shown_without_its_login(url: str, shown: str) -> None:
    assert safe_url(url) == shown


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (redis.AuthenticationError("WRONGPASS ..."), Refused, "at W refused the user name or password"),
        (redis.exceptions.AuthorizationError("no"), Refused, "at W refused the user name or password"),
        (redis.ResponseError("NOAUTH Authentication required."), Refused, "at W wants a password"),
        (redis.exceptions.NoPermissionError("NOPERM rpush"), Refused, "at W does not allow it: NOPERM rpush"),
        (redis.ReadOnlyError("READONLY replica"), RefusedForNow, "READONLY replica; nothing was done"),
        (redis.exceptions.OutOfMemoryError("OOM full"), RefusedForNow, "OOM full; nothing was done"),
        (redis.ResponseError("MISCONF disk"), RefusedForNow, "MISCONF disk; nothing was done"),
        (redis.exceptions.MasterDownError("link"), RefusedForNow, "link; nothing was done"),
        (redis.exceptions.TryAgainError("keys"), RefusedForNow, "keys; nothing was done"),
        (redis.exceptions.ClusterDownError("down"), RefusedForNow, "down; nothing was done"),
        (redis.ResponseError("UNBLOCKED force unblock"), RefusedForNow, "force unblock; nothing was done"),
        (redis.ResponseError("BUSY a script runs"), RefusedForNow, "a script runs; nothing was done"),
        (redis.ResponseError("NOREPLICAS not enough"), RefusedForNow, "not enough; nothing was done"),
        (redis.ResponseError("BUSYGROUP exists"), Refused, "BUSYGROUP exists; nothing was done"),
        (redis.ResponseError("WRONGTYPE of a key"), Refused, "WRONGTYPE of a key; nothing was done"),
        (redis.ResponseError("ERR it is BUSY"), Refused, "it is BUSY; nothing was done"),
        (redis.BusyLoadingError("LOADING"), Unavailable, "no server answers at W"),
        (redis.ConnectionError("reset"), InDoubt, r"to W broke before the reply \(reset\)"),
        (redis.TimeoutError("slow"), InDoubt, "to W broke before the reply"),
        (BrokenPipeError("pipe"), InDoubt, "to W broke before the reply"),
        (redis.WatchError("watched"), InDoubt, "may or may not have been done"),
    ],
)
def test_each_error_says_whether_anything_was_done(
    error: Exception, kind: type[ServerError], message: str
) -> None:
    translated = translate(error, "W")
    assert type(translated) is kind
    with pytest.raises(kind, match=message):
        raise translated


@pytest.mark.parametrize("scheme", ["unix:///nowhere/valkey.sock", "redis://127.0.0.1:1"])
def test_a_server_that_is_not_there_is_unavailable_and_not_in_doubt(scheme: str) -> None:
    with pytest.raises(redis.ConnectionError) as caught:
        open_client(scheme).ping()
    assert isinstance(translate(caught.value, "W"), Unavailable)


@pytest.mark.parametrize(
    "url", ["redis://cache/0?{}", "unix:///run/s?db=1&{}", "redis+sentinel://a:1/main?{}"]
)
@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("socket_timeout=30", "socket_timeout"),
        ("socket_connect_timeout=1", "socket_connect_timeout"),
        ("retry_on_timeout=yes", "retry_on_timeout"),
        ("decode_responses=True", "decode_responses"),
        ("protocol=3", "protocol"),
    ],
)
def test_an_option_that_would_be_overridden_is_refused(url: str, option: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^redis_url: the option {name} is Microbatch's own to set; leave"):
        open_client(url.format(option))
