"""Names that nobody has used, all batchers of a server, and `microbatch status --check`."""

from __future__ import annotations

import json
import socket

import pytest

from microbatch.broker.broker import Broker
from microbatch.producer import Config
from tests.conftest import Command, MakeServer
from tests.servers import RealServer
from tests.waiting import wait_until

NOBODY = "nobody has ever used a batcher 'nosuch' at "

REFUSE = {
    "record": ["record", "nosuch"],
    "flush": ["flush", "nosuch"],
    "verify": ["verify", "nosuch"],
    "verify --repair": ["verify", "nosuch", "--repair"],
    "dead replay": ["dead", "replay", "nosuch", "--all"],
    "dead purge": ["dead", "purge", "nosuch", "--all"],
    "status --check": ["status", "nosuch", "--check"],
}
TELL = {
    "status": ["status", "nosuch"],
    "status --json": ["status", "nosuch", "--json"],
    "results": ["results", "nosuch"],
    "dead list": ["dead", "list", "nosuch"],
    "dead show": ["dead", "show", "nosuch", "--all"],
}


@pytest.mark.parametrize("words", REFUSE.values(), ids=REFUSE)
def test_commands_that_act_refuse_a_name_that_nobody_has_used(
    words: list[str], command: Command, valkey_server: RealServer
) -> None:
    process = command("microbatch", *words, stdin='"a"\n', url=valkey_server.url)
    assert process.wait() == 2
    assert process.stdout == []
    (line,) = process.stderr
    assert line.startswith(f"microbatch: error: {NOBODY}{valkey_server.url} with the key prefix 'mb'; ")
    assert "`microbatch list`" in line
    assert ("use --create" in line) == (words[0] == "record")
    assert not valkey_server.admin.keys("*")


@pytest.mark.parametrize("words", TELL.values(), ids=TELL)
def test_commands_that_look_say_that_nobody_has_used_the_name(
    words: list[str], command: Command, valkey_server: RealServer
) -> None:
    process = command("microbatch", *words, url=valkey_server.url)
    assert process.wait() == 0, process.output
    (line,) = process.stderr
    assert line.startswith(f"microbatch: warning: {NOBODY}")


def test_a_new_name_is_recorded_for_when_that_is_asked_for(
    command: Command, valkey_server: RealServer
) -> None:
    first = command("microbatch", "record", "new", "--create", stdin='"a"\n', url=valkey_server.url)
    assert first.wait() == 0, first.output
    again = command("microbatch", "record", "new", stdin='"a"\n', url=valkey_server.url)  # it is known now
    assert again.wait() == 0, again.output
    assert valkey_server.admin.llen("mb:{new}:events") == 2


@pytest.mark.parametrize("words", [["record"], ["verify"], ["status"], ["dead", "list"]], ids=" ".join)
def test_an_app_is_no_mistyped_name(
    words: list[str], command: Command, letters: str, valkey_server: RealServer
) -> None:
    process = command("microbatch", *words, letters, stdin='"a"\n', url=valkey_server.url)
    assert process.wait() == 0, process.output
    assert "nobody" not in process.output


@pytest.mark.parametrize(
    ("used_by", "known"),
    [("a scheduler", True), ("an event", True), ("an event that was cut", True), ("a key of no type", False)],
)
def test_what_makes_a_name_known(
    used_by: str, known: bool, command: Command, valkey_server: RealServer
) -> None:
    admin, broker = valkey_server.admin, Broker(Config(name="letters", redis_url=valkey_server.url))
    match used_by:
        case "a scheduler":
            broker.publish_config()
        case "an event":
            broker.events.record([b"1"], b"1:0:0:")
        case "an event that was cut":
            admin.hset(broker.keys.stats, "cut_events", 1)
        case _:
            admin.set("mb:{letters}:nothing", "1")
    broker.close()
    process = command("microbatch", "dead", "list", "letters", url=valkey_server.url)
    assert process.wait() == 0
    assert (process.stderr == []) == known


def test_all_batchers_of_the_server(command: Command, letters: str, server: RealServer) -> None:
    scheduler = command("microbatch", "scheduler", letters, url=server.url)
    scheduler.wait_for_line("active")
    words = ["record", "z-new", "--create"]
    assert command("microbatch", *words, stdin='"a"\n"b"\n', url=server.url).wait() == 0
    admin = server.admin
    admin.set("mb:{not a name}:events", "")  # strange keys, and keys of others
    admin.set("other:{else}:events", "")
    admin.set("mb:plain", "")
    admin.set("mb:{broken}:events", "not a list")
    found = {}
    for listing in (["list", "--json"], ["status", "--json"]):
        process = command("microbatch", *listing, url=server.url)
        assert process.wait() == 0, process.output
        assert process.stderr == []
        lines = [json.loads(line) for line in process.stdout]
        assert [line["batcher"] for line in lines] == ["broken", "letters", "z-new"]
        found = {line["batcher"]: line for line in lines}
    assert "WRONGTYPE" in found["broken"]["unreadable"]
    assert found["letters"]["scheduler"]["active"].endswith(f":{scheduler.pid}")
    assert found["z-new"]["waiting"]["events"] == 2
    assert found["z-new"]["scheduler"]["active"] is None
    for listing in (["list"], ["status"]):
        table = command("microbatch", *listing, url=server.url)
        assert table.wait() == 0, table.output
        assert any(line.startswith("z-new") and line.rstrip().endswith("none") for line in table.stdout)


def test_a_server_without_a_batcher(command: Command, valkey_server: RealServer) -> None:
    process = command("microbatch", "list", url=valkey_server.url)
    assert process.wait() == 0
    assert process.stdout == []
    (line,) = process.stderr
    assert line.endswith("there is no batcher at " + valkey_server.url + " with the key prefix 'mb'")


def test_a_list_without_a_server_is_told(command: Command) -> None:
    process = command("microbatch", "list")
    assert process.wait() == 2
    (line,) = process.stderr
    assert "MICROBATCH_REDIS_URL" in line


def test_the_check_has_an_exit_code_for_monitoring(
    command: Command, letters: str, make_server: MakeServer
) -> None:
    server = make_server("valkey", appendonly=True)
    url = server.url

    def check(*words: str) -> tuple[int, list[str]]:
        process = command("microbatch", "status", *words, "--check", url=url)
        return process.wait(), process.stdout

    scheduler = command("microbatch", "scheduler", letters, url=url)
    scheduler.wait_for_line("active")
    assert check("letters") == (1, ["letters: there is no worker: what is in flight is not run"])
    none_here = f"letters: no worker of this host ({socket.gethostname()}) shows itself"
    assert check("letters", "--role", "worker") == (1, [none_here])
    assert check("letters", "--role", "scheduler") == (0, ["letters: all is well"])
    worker = command("microbatch", "worker", letters, url=url)
    wait_until(lambda: check("letters") == (0, ["letters: all is well"]))
    assert check() == (0, ["letters: all is well"])  # this covers all batchers

    assert command("microbatch", "record", "letters", stdin='"x"\n', url=url).wait() == 0  # it has no value
    wait_until(lambda: check("letters")[0] == 1)
    dead = "letters: 1 batch is dead: see to them with `microbatch dead list letters`"
    assert check("letters") == (1, [dead])
    assert check("letters", "--role", "worker") == (
        0,
        ["letters: all is well"],
    )  # its health is a separate matter
    process = command("microbatch", "status", "letters", "--check", "--json", url=url)
    assert process.wait() == 1
    assert [f"letters: {problem}" for problem in json.loads(process.stdout[0])["problems"]] == [dead]

    scheduler.terminate()
    assert scheduler.wait() == 0
    worker.terminate()
    assert worker.wait() == 0
    code, lines = check()
    assert code == 1
    assert len(lines) == 3
    none_here = f"letters: no scheduler of this host ({socket.gethostname()}) is active or stands by"
    assert check("letters", "--role", "scheduler") == (1, [none_here])
    server.kill()
    assert check("letters") == (2, [])
