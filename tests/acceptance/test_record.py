"""`microbatch record`: events from files and pipes."""

from __future__ import annotations

import json
import os
import pty
import resource
import subprocess
import time
from pathlib import Path

import pytest

from microbatch.broker.broker import Broker
from microbatch.producer import Config
from tests.conftest import Command, MakeServer
from tests.processes import clean_environment, script
from tests.servers import RealServer
from tests.waiting import wait_until

EVENTS = "mb:{letters}:events"
PREFIX = 12  # a version and the time, before an event's JSON


def recorded(server: RealServer) -> list[bytes]:
    raws: list[bytes] = server.admin.lrange(EVENTS, 0, -1)  # type: ignore[assignment]
    return [raw[PREFIX:] for raw in raws]


def test_each_line_is_an_event_as_it_stands(command: Command, server: RealServer, tmp_path: Path) -> None:
    lines = ['"a"', '{"b":  1.50}', "[1, 2]", "12345678901234567890.1234567890", "null", '"\\u00e9 é"']
    (tmp_path / "events.jsonl").write_text("\n".join(["", *lines[:3], "  "]))
    process = command(
        "microbatch",
        "record",
        "letters",
        "--create",
        "events.jsonl",
        "-",
        stdin="\r\n".join(lines[3:]),
        url=server.url,
    )
    assert process.wait() == 0, process.output
    assert recorded(server) == [line.encode() for line in lines]
    assert process.stdout == []
    assert process.stderr == ["recorded 6 events"]


@pytest.mark.leaves("wake")
@pytest.mark.parametrize(("eager", "words"), [(True, [b"idle"]), (False, [])])
def test_a_batcher_that_is_known_by_its_name_is_woken_as_its_scheduler_expects(
    command: Command, valkey_server: RealServer, eager: bool, words: list[bytes]
) -> None:
    broker = Broker(Config(name="letters", redis_url=valkey_server.url, eager=eager))
    broker.publish_config()
    process = command("microbatch", "record", "letters", stdin="1\n2\n", url=valkey_server.url)
    assert process.wait() == 0, process.output
    assert valkey_server.admin.lrange(broker.keys.wake, 0, -1) == words
    broker.close()


def test_many_lines_come_in_order(command: Command, valkey_server: RealServer) -> None:
    numbers = "\n".join(map(str, range(25_000)))
    process = command("microbatch", "record", "letters", "--create", stdin=numbers, url=valkey_server.url)
    assert process.wait() == 0, process.output
    assert recorded(valkey_server) == numbers.encode().split()
    assert process.stderr == ["recorded 25,000 events"]


def test_lines_of_text_are_strings(command: Command, valkey_server: RealServer, tmp_path: Path) -> None:
    (tmp_path / "access.log").write_bytes(b'GET "/" 200\n\xff\xe9t\xe9\r\n\nlast')
    process = command(
        "microbatch", "record", "letters", "--create", "access.log", "--lines", url=valkey_server.url
    )
    assert process.wait() == 0, process.output
    texts = [json.loads(body) for body in recorded(valkey_server)]
    assert texts == ['GET "/" 200', "\ufffd\ufffdt\ufffd", "", "last"]


def test_a_line_that_is_not_json_ends_it(command: Command, valkey_server: RealServer, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('"a"\n"b"\n{"c"\n"d"\n')
    process = command("microbatch", "record", "letters", "--create", "events.jsonl", url=valkey_server.url)
    assert process.wait() == 2
    assert process.stderr == [
        (
            "microbatch: error: events.jsonl:3: not JSON: EOF while parsing an object at column 4: "
            '{"c"; an event is one line: `jq -c .` makes lines of values that go on over several; '
            "2 events were recorded; correct the line and go on with it, or use --skip-invalid"
        )
    ]
    assert recorded(valkey_server) == [b'"a"', b'"b"']


def test_lines_that_are_not_json_are_left_out_when_asked(command: Command, valkey_server: RealServer) -> None:
    text = '"a"\nNaN\n"b"\n"c" "d"\n"e"\n'
    process = command(
        "microbatch", "record", "letters", "--create", "--skip-invalid", stdin=text, url=valkey_server.url
    )
    assert process.wait() == 0, process.output
    assert recorded(valkey_server) == [b'"a"', b'"b"', b'"e"']
    assert [line[:44] for line in process.stderr] == [
        "microbatch record: skipped <stdin>:2: not JS",
        "microbatch record: skipped <stdin>:4: not JS",
        "recorded 3 events, skipped 2 lines",
    ]


def test_what_a_pipe_holds_is_recorded_before_more_comes(valkey_server: RealServer) -> None:
    with subprocess.Popen(
        [script("microbatch"), "record", "letters", "--create"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment({"MICROBATCH_REDIS_URL": valkey_server.url}),
    ) as process:
        assert process.stdin is not None
        for number in range(1, 4):
            process.stdin.write(b"%d\n" % number)
            process.stdin.flush()
            wait_until(lambda number=number: valkey_server.admin.llen(EVENTS) == number)  # type: ignore[misc]
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.alone
def test_it_keeps_to_a_rate(command: Command, valkey_server: RealServer) -> None:
    started = time.monotonic()
    process = command(
        "microbatch", "record", "letters", "--create", "--rate", "40", stdin="1\n" * 41, url=valkey_server.url
    )
    assert process.wait() == 0, process.output
    assert time.monotonic() - started > 0.9  # the last is due after one second, minus its chunk
    stamps = [int(raw[1:PREFIX], 16) for raw in valkey_server.admin.lrange(EVENTS, 0, -1)]
    assert 800 <= stamps[-1] - stamps[0] <= 1500


def test_ctrl_c_tells_how_many(command: Command, valkey_server: RealServer) -> None:
    process = command(
        "microbatch",
        "record",
        "letters",
        "--create",
        "--rate",
        "10",
        stdin="1\n" * 100,
        url=valkey_server.url,
    )
    wait_until(lambda: valkey_server.admin.llen(EVENTS) >= 2)
    process.interrupt()
    assert process.wait() == 130
    (line,) = process.stderr
    recorded = valkey_server.admin.llen(EVENTS)
    told = int(line.split()[1])
    assert told in (recorded, recorded - 1)  # it may end before it has read the last reply
    assert line == f"recorded {told} event{'s' * (told != 1)}"


def test_a_full_batch_wakes_the_scheduler(command: Command, letters: str, valkey_server: RealServer) -> None:
    """It uses the size that the scheduler uses, although only the name is given."""
    valkey_server.admin.hset("mb:{letters}:config", mapping={"frequency": 1000, "max_size": 3})
    for text, words in (("1\n2\n", []), ("3\n", [b"size"])):
        process = command("microbatch", "record", "letters", "--create", stdin=text, url=valkey_server.url)
        assert process.wait() == 0, process.output
        assert valkey_server.admin.lrange("mb:{letters}:wake", 0, -1) == words


@pytest.mark.parametrize(
    ("make_it_refuse", "reason"),
    [
        (["REPLICAOF", "127.0.0.1", "1"], "You can't write against a read only replica"),
        (["CONFIG", "SET", "maxmemory", "1"], "command not allowed when used memory > 'maxmemory'"),
        (["CONFIG", "SET", "min-replicas-to-write", "1"], "Not enough good replicas to write"),
    ],
)
def test_a_server_that_takes_no_events(
    command: Command, make_server: MakeServer, make_it_refuse: list[str], reason: str
) -> None:
    server = make_server("valkey")
    server.admin.execute_command(*make_it_refuse)
    process = command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n', url=server.url)
    assert process.wait() == 2
    (line,) = process.stderr
    assert line.startswith(f"microbatch: error: the server at {server.url} refused: ")
    assert reason in line
    assert line.endswith("nothing was done; 0 events were recorded; go on at <stdin>:1")
    assert recorded(server) == []


def test_a_server_whose_disk_is_full(command: Command, make_server: MakeServer) -> None:
    server = make_server("valkey", appendonly=True, arguments=["--appendfsync", "everysec"])
    # A limit on file size stands for a full disk. The signal that comes with it is ignored.
    server._command[:0] = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"]
    server.restart()
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1024, 1024))
    server.admin.set("test:big", "x" * 2048)  # this write meets the full disk
    process = command("microbatch", "record", "letters", "--create", stdin='"a"\n', url=server.url)
    assert process.wait() == 2
    (line,) = process.stderr
    assert "refused: " in line
    assert "MISCONF" in line or "Errors writing to the AOF file" in line
    assert line.endswith("0 events were recorded; go on at <stdin>:1")
    assert recorded(server) == []


def test_a_terminal_shows_how_far_it_is(valkey_server: RealServer, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("1\n" * 20)
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [script("microbatch"), "record", "letters", "--create", "events.jsonl", "--rate", "20"],
        stdin=subprocess.DEVNULL,
        stderr=end,
        env=clean_environment({"MICROBATCH_REDIS_URL": valkey_server.url, "TERM": "xterm"}),
    ) as process:
        os.close(end)
        shown = b""
        while b"recorded 20 events" not in shown:
            shown += os.read(terminal, 1024)
        assert process.wait() == 0
    os.close(terminal)
    assert b"20 events" in shown.split(b"recorded")[0]
