"""All commands that the rule of an untrusted role allows, with hostile arguments, harm no other role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.acceptance.test_access import KEY, rules, set_users
from tests.conftest import MakeServer
from tests.fleet import ECHO, HASTY, Fleet
from tests.integration.test_hostile_values import House
from tests.servers import LOCALHOST, RealServer
from tests.unit.steps import check_account

Guarded: TypeAlias = tuple[House, RealServer]
LAST_ID = "18446744073709551615-18446744073709551615"
HUGE = "x" * 500_000

# The arguments after the key, by command. An asterisk stands for the key if it is not the first argument.
HOSTILE: dict[str, list[Sequence[str]]] = {
    "rpush": [["x"], [""], [HUGE], ["1ffffffffffff1"], ["size"] * 100, ["flush"] * 100],
    "lrem": [["0", "x"], ["0", "size"]],
    "zadd": [["inf", "x"], ["-1", HUGE]],
    "zremrangebyscore": [["-inf", "+inf"]],
    "pexpire": [["1"], ["9223372036854775"]],
    "xadd": [["*", "a", "b"], ["*", "v", "1", "result", HUGE], [LAST_ID, "a", "b"]],
    "xread": [["COUNT", "1", "STREAMS", "*", "0"]],
    "xgroup": [["CREATE", "*", "x", "0"], ["DELCONSUMER", "*", "handlers", "x"]],
    "xreadgroup": [["GROUP", "handlers", "x", "COUNT", "100", "STREAMS", "*", ">"]],
    "xautoclaim": [["handlers", "x", "0", "0"]],
    "xclaim": [["handlers", "x", "0", "1-1", "FORCE"], ["handlers", "x", "0", LAST_ID, "FORCE", "JUSTID"]],
    "xack": [["handlers", "1-1"]],
    "xdel": [["1-1"], [LAST_ID]],
}  # fmt: skip
_KEY_WITHIN = ("xread", "xgroup", "xreadgroup")


def commands(role: str) -> set[str]:
    """The commands that the role's rule allows, the first word of each."""
    words = rules()[role].replace("(", " ").replace(")", " ").split()
    return {word[1:].partition("|")[0] for word in words if word.startswith("+")}


def keys(role: str) -> list[str]:
    words = rules()[role].replace("(", " ").replace(")", " ").split()
    found = {word.partition("~")[2] for word in words if word.startswith(("~", "%R~"))}
    return sorted(key.replace("*", "1") for key in found)


def attempts(role: str) -> Iterator[list[str]]:
    for command in sorted(commands(role) & HOSTILE.keys()):
        for key in keys(role):
            for words in HOSTILE[command]:
                at = [
                    key if word == "*" and command in ("xread", "xgroup", "xreadgroup") else word
                    for word in words
                ]
                yield [command, *([] if key in at else [key]), *at]


@pytest.fixture(params=["valkey", "redis"])
def house(
    request: pytest.FixtureRequest, make_server: MakeServer, tmp_path: Path
) -> Iterator[tuple[House, RealServer]]:
    server = make_server(request.param, tcp=True)
    set_users(server)
    settings = {"max_retries": 0, "retry_delay": 0.05, "max_size": 10, "claim_after": 1}
    with Fleet(server, tmp_path, HASTY + ECHO, **settings) as fleet:
        yield House(fleet, server), server


@pytest.mark.leaves("quarantine", "dead", "batch", "seen", "wake", "reply")
@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_nothing_that_a_role_may_do_harms_the_others(house: Guarded, role: str) -> None:
    living, server = house
    living.assert_all_well()
    url = f"redis://{role}:secret@{LOCALHOST}:{server.port}/0"
    allowed = 0
    with redis.Redis.from_url(url, retry=None) as client:
        for words in attempts(role):
            try:
                client.execute_command(*words)
            except NoPermissionError:
                continue
            except redis.ResponseError:  # the server understands none of it
                pass
            allowed += 1
    assert allowed > 10
    living.assert_all_well()
    check_account(living.fleet.broker)


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("producer", ["PEXPIRE", KEY + "events", "1"]),
        ("producer", ["LREM", KEY + "events", "0", "x"]),
        ("producer", ["ZADD", KEY + "events", "1", "x"]),
        ("producer", ["XADD", KEY + "events", "*", "a", "b"]),
        ("producer", ["RPUSH", KEY + "seen", "x"]),
        ("consumer", ["XADD", KEY + "results", LAST_ID, "a", "b"]),
        ("consumer", ["PEXPIRE", KEY + "results", "1"]),
        ("consumer", ["RPUSH", KEY + "results", "1"]),
        ("consumer", ["XDEL", KEY + "quarantine:results", "1-1"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_right_is_for_the_keys_that_need_it(
    make_server: MakeServer, role: str, words: Sequence[str]
) -> None:
    server = make_server(tcp=True)
    set_users(server)
    with (
        redis.Redis.from_url(f"redis://{role}:secret@{LOCALHOST}:{server.port}/0", retry=None) as client,
        pytest.raises(NoPermissionError),
    ):
        client.execute_command(*words)
