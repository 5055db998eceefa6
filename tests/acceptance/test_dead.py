"""`microbatch dead` and `microbatch verify`, as an operator uses them."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer

from microbatch.broker.broker import Broker
from microbatch.broker.state.account import Account
from microbatch.broker.wire.event import encode_event
from microbatch.broker.wire.header import Header, Trigger
from microbatch.broker.wire.identity import new_id
from microbatch.broker.wire.run_record import RunRecord
from microbatch.producer import Config, start
from tests.conftest import Command
from tests.processes import clean_environment, script
from tests.servers import RealServer
from tests.waiting import wait_until

KEY = "mb:{letters}:"

# Fails for the events "bad" and "worse", each in its own way, until the file "repaired" exists.
APP = """\
from pathlib import Path
from microbatch.producer import Config

def total(batch: list[str]) -> int:
    if not Path("repaired").exists():
        if "bad" in batch:
            raise ValueError("bad luck")
        if "worse" in batch:
            raise OSError("connection refused")
    return len(batch)

config = Config(
    name="letters", batch_processor=total, frequency=100, max_size=2, max_retries=0,
    give_up_on=(ValueError, OSError),  # dead at once, whether others succeed or not
)
"""

# Fails for NaN, which it can recognise.
NOT_NUMBERS = """\
import math
from microbatch.producer import Config

def total(batch: list[float]) -> list[float]:
    if any(map(math.isnan, batch)):
        raise ValueError("not a number")
    return [*batch, math.inf, math.nan]

config = Config(name="letters", batch_processor=total, frequency=100, max_size=2, give_up_on=ValueError)
"""


class Operator:
    """A running system, and the person who looks after it."""

    def __init__(self, command: Command, server: RealServer, folder: Path, app: str = APP) -> None:
        (folder / "app.py").write_text(app)
        self.command = command
        self.server = server
        self.broker = Broker(Config(name="letters", redis_url=server.url))
        self.scheduler = command("microbatch", "scheduler", "app.py", url=server.url)
        self.worker = command("microbatch", "worker", "app.py", url=server.url)

    def run(self, *words: str, code: int = 0, stdin: str | None = None) -> list[str]:
        """Run the command, and return the lines that it writes to stdout and stderr."""
        process = self.command("microbatch", *words, url=self.server.url, stdin=stdin)
        assert process.wait() == code, process.output
        return process.lines

    def record(self, *events: str) -> None:
        self.run("record", "letters", "--create", stdin="".join(f'"{event}"\n' for event in events))

    def dead(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("dead", "list", "letters", "--json")]

    def wait_for_dead(self, count: int) -> None:
        wait_until(lambda: self.server.admin.zcard(KEY + "dead") == count, 20, lambda: self.worker.output)

    def wait_until_done(self, events: int) -> None:
        wait_until(lambda: self.broker.stats.counters().done_events == events, 20, lambda: self.worker.output)


@pytest.fixture
def operator(command: Command, valkey_server: RealServer, tmp_path: Path) -> Operator:
    """The operator of a system with two dead batches: the events "bad" and "worse". Other events are done."""
    found = Operator(command, valkey_server, tmp_path)
    found.record("a", "bad", "b", "worse")
    found.wait_for_dead(2)
    found.wait_until_done(2)
    return found


def test_listed_and_shown(operator: Operator) -> None:
    dead = {batch["error"]: batch for batch in operator.dead()}
    assert dead.keys() == {"ValueError: bad luck", "OSError: connection refused"}
    bad = dead["ValueError: bad luck"]
    assert (bad["size"], bad["trigger"]) == (1, "size")
    assert bad["attempts"] >= 1
    assert bad["batch"].startswith(bad["parent"])
    assert bad["died_at"].endswith("Z")

    head, *rows = operator.run("dead", "list", "letters")
    assert head.split() == ["batch", "died", "events", "attempts", "error"]
    assert len(rows) == 2
    (row,) = operator.run("dead", "list", "letters", "--error", "CONNECTION")[1:]
    assert row.endswith("OSError: connection refused")

    shown = operator.run("dead", "show", "letters", bad["batch"][:40])
    assert "error     ValueError: bad luck" in shown
    assert any("in total" in line for line in shown)  # this is the traceback
    assert f"part of   {bad['parent']}" in shown
    assert "events    1, cut by size at " in "\n".join(shown)
    assert shown[-2:] == ['event     "bad"', ""]
    (whole,) = map(json.loads, operator.run("dead", "show", "letters", "--error", "refused", "--json"))
    assert whole["events"] == ["worse"]
    assert "OSError: connection refused" in whole["traceback"]


def test_a_terminal_that_lacks_a_character_gets_its_code(
    command: Command, valkey_server: RealServer, tmp_path: Path
) -> None:
    operator = Operator(command, valkey_server, tmp_path, APP.replace("bad luck", "mala suerte, niño"))
    operator.record("bad")
    operator.wait_for_dead(1)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = command("microbatch", "dead", "list", "letters", url=valkey_server.url, env=ascii_only)
    assert process.wait() == 0, process.output
    assert process.stdout[1].endswith("ValueError: mala suerte, ni\\xf1o")


def test_an_error_is_shown_as_it_is_and_moves_no_cursor(
    command: Command, valkey_server: RealServer, tmp_path: Path
) -> None:
    operator = Operator(command, valkey_server, tmp_path, APP.replace("bad luck", "no [/bold] \\x1b[2J"))
    operator.record("bad")
    operator.wait_for_dead(1)
    (row,) = operator.run("dead", "list", "letters")[1:]
    assert row.endswith("ValueError: no [/bold] \\x1b[2J")
    shown = operator.run("dead", "show", "letters", "--all")
    assert "error     ValueError: no [/bold] \\x1b[2J" in shown
    assert "\x1b" not in "".join(shown)


def test_a_terminal_shows_a_progress_bar(operator: Operator) -> None:
    words = [script("microbatch"), "dead", "purge", "letters", "--all"]
    settings = {"MICROBATCH_REDIS_URL": operator.server.url, "TERM": "xterm"}
    ours, terminal = pty.openpty()
    with os.fdopen(ours, "rb", 0) as screen:
        with subprocess.Popen(words, stderr=terminal, env=clean_environment(settings)) as process:
            os.close(terminal)
            shown = b"".join(iter(lambda: read_terminal(screen), b"")).decode()
        assert process.returncode == 0, shown
    assert re.search(r"purge .*━.*100%", shown), shown
    assert "purge: 2 batches, 2 events" in shown


def read_terminal(screen: BinaryIO) -> bytes:
    """The next output, or nothing when the last program on the terminal has ended."""
    try:
        return screen.read(1000)
    except OSError:
        return b""


def test_json_output_has_no_nan_or_infinity(
    command: Command, valkey_server: RealServer, tmp_path: Path
) -> None:
    operator = Operator(command, valkey_server, tmp_path, NOT_NUMBERS)
    with start(Config(name="letters", redis_url=valkey_server.url)) as mb:
        mb.record_events([math.nan, 1.0])
    operator.wait_for_dead(1)
    operator.wait_until_done(1)
    dead, done = (
        operator.run("dead", "show", "letters", "--all", "--json"),
        operator.run("results", "letters"),
    )

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    (shown,) = (json.loads(line, parse_constant=refuse) for line in dead)
    assert shown["events"] == [None]
    lines = [json.loads(line, parse_constant=refuse) for line in done]
    assert [line["result"] for line in lines if "result" in line] == [[1, None, None]]
    assert [line["failure"]["events"] for line in lines if "failure" in line] == [[None]]


def test_a_dry_run_changes_nothing(operator: Operator) -> None:
    before = operator.dead()
    assert operator.run("dead", "replay", "letters", "--all", "--dry-run") == [
        "would replay: 2 batches, 2 events"
    ]
    (line,) = operator.run("dead", "purge", "letters", "--error", "bad", "--dry-run")
    assert line == "would purge: 1 batch, 1 event"
    assert operator.dead() == before
    assert operator.run("verify", "letters") == ["letters: all is accounted for"]


def test_no_choice_or_two_choices_are_refused(operator: Operator) -> None:
    batch_id = operator.dead()[0]["batch"]
    for words in ([batch_id, "--all"], [batch_id, "--error", "bad"], ["--all", "--error", "bad"], []):
        (line,) = operator.run("dead", "purge", "letters", *words, code=2)
        assert "which? name batches by their ids, or use --error TEXT, or --all" in line
    for words in ([""], ["--error", ""]):
        (line,) = operator.run("dead", "purge", "letters", *words, code=2)
        assert "an empty text would choose all; use --all for that" in line
    assert len(operator.dead()) == 2


def test_an_error_without_utf8_is_written_as_json(
    command: Command, valkey_server: RealServer, tmp_path: Path
) -> None:
    app = APP.replace('"bad luck"', '"no such file: caf" + chr(0xDCE9)')
    operator = Operator(command, valkey_server, tmp_path, app)
    operator.record("bad")
    operator.wait_for_dead(1)
    (dead,) = operator.dead()
    assert dead["error"] == "ValueError: no such file: caf\udce9"
    (result,) = operator.run("results", "letters")
    assert json.loads(result)["failure"]["error"] == dead["error"]


def test_replayed_ones_go_through_the_normal_path(operator: Operator, tmp_path: Path) -> None:
    operator.run("dead", "replay", "letters", "--error", "bad")  # not repaired, so it dies again
    wait_until(lambda: operator.broker.stats.counters().dead_batches == 3)
    operator.wait_for_dead(2)
    (tmp_path / "repaired").touch()
    (line,) = operator.run("dead", "replay", "letters", "--all")
    assert line.startswith("replay: 2 batches, 2 events")
    operator.wait_until_done(4)
    assert operator.dead() == []
    assert operator.run("verify", "letters") == ["letters: all is accounted for"]
    counters = operator.broker.stats.counters()
    assert Account.of(counters, 0).recorded == 4  # a replay does not count as recording


def test_purged_by_the_beginning_of_an_id(operator: Operator) -> None:
    bad, worse = sorted(operator.dead(), key=lambda batch: str(batch["error"]), reverse=True)
    operator.run("dead", "purge", "letters", bad["batch"][:12])
    assert [batch["batch"] for batch in operator.dead()] == [worse["batch"]]
    (line,) = operator.run("dead", "purge", "letters", bad["batch"], code=2)
    assert "there is no dead batch" in line
    operator.run("dead", "purge", "letters", code=2)  # no batch is named
    operator.run("dead", "purge", "letters", "--all")
    assert operator.dead() == []
    assert not operator.server.admin.keys(KEY + "batch:*")
    assert operator.run("verify", "letters") == ["letters: all is accounted for"]


def test_one_that_is_requeued_in_rq_is_run_again(operator: Operator, tmp_path: Path) -> None:
    registry = FailedJobRegistry("mb:letters", connection=operator.server.admin, serializer=JSONSerializer)
    dead = [batch["batch"] for batch in operator.dead()]
    wait_until(lambda: set(dead) <= set(registry.get_job_ids()))  # they are among the failed jobs there
    registry.requeue(dead[0])  # not repaired, so it dies again
    wait_until(lambda: operator.broker.stats.counters().dead_batches == 3, 20)
    (tmp_path / "repaired").touch()
    wait_until(lambda: set(dead) <= set(registry.get_job_ids()))
    for batch_id in dead:
        registry.requeue(Job.fetch(batch_id, connection=operator.server.admin, serializer=JSONSerializer))
    operator.wait_until_done(4)
    assert operator.dead() == []
    assert operator.run("verify", "letters") == ["letters: all is accounted for"]


def test_verify_names_what_disagrees_and_mends_it(operator: Operator) -> None:
    admin, stray, missing = operator.server.admin, new_id(), new_id()
    values: list[str | bytes] = [Header(Trigger.TICK, 1, 1).encode(), RunRecord().encode()]
    admin.rpush(KEY + f"batch:{stray}", *values, encode_event(b'"x"', 1))
    admin.zadd(KEY + "dead", {missing: 1})
    admin.hincrby(KEY + "stats", "cut_events", 7)
    found = operator.run("verify", "letters", code=1)
    assert [line.partition(": ")[0] for line in found] == [
        KEY + f"batch:{missing}", KEY + f"batch:{stray}", KEY + "stats", KEY + "stats",
    ]  # fmt: skip
    repaired = operator.run("verify", "letters", "--repair", code=1)
    assert "(put in flight)" in repaired[1]
    operator.wait_until_done(3)
    assert operator.run("verify", "letters") == ["letters: all is accounted for"]


def test_verify_reports_jobs_without_a_batch_and_leaves_them(
    command: Command, valkey_server: RealServer
) -> None:
    admin, jobs = valkey_server.admin, [b"forged", b"\xff\n", b"1" * 32]
    admin.rpush("rq:queue:mb:letters", *jobs)
    for repair in ([], ["--repair"]):
        verify = command("microbatch", "verify", "letters", *repair, url=valkey_server.url)
        assert verify.wait() == 1, verify.output
        assert verify.lines == [
            f"rq:job:{job}: it is queued, and is not a batch's job" for job in ("forged", "\\xff\\n")
        ]
    # The last is a second job of a batch that is done, as there may be after a takeover.
    assert admin.lrange("rq:queue:mb:letters", 0, -1) == jobs


def test_verify_finds_nothing_wrong_in_a_busy_system(operator: Operator) -> None:
    recorder = operator.command(
        "microbatch", "record", "letters", "--create", url=operator.server.url,
        stdin="".join(f'"{n % 97 or "bad"}"\n' for n in range(3_000)),
    )  # fmt: skip
    looks = 0
    while operator.broker.stats.counters().done_events < 1_500 or looks < 8:
        assert operator.run("verify", "letters") == ["letters: all is accounted for"]
        looks += 1
    assert recorder.wait() == 0
    operator.wait_for_dead(2 + 31)
    wait_until(lambda: not operator.broker.ledger.in_flight() and not operator.broker.events.waiting(), 60)
    assert operator.run("verify", "letters") == ["letters: all is accounted for"]


def test_status_shows_what_holds_it_back_and_the_risks(
    command: Command, valkey_server: RealServer, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP.replace("max_size=2", "max_size=2, results_max=1"))
    url = valkey_server.url
    command("microbatch", "scheduler", "app.py", url=url)
    command("microbatch", "worker", "app.py", url=url)
    assert command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n', url=url).wait() == 0
    wait_until(lambda: valkey_server.admin.xlen(KEY + "results") == 1)
    assert command("microbatch", "record", "letters", "--create", stdin='"a"\n"b"\n', url=url).wait() == 0
    wait_until(lambda: valkey_server.admin.hexists(KEY + "config", "held_back"))
    table = command("microbatch", "status", "letters", url=url)
    assert table.wait() == 0
    assert (
        "held back  1 result waits for a handler; results_max is 1, and there is no consumer" in table.stdout
    )
    assert any(line.startswith("risk       there is no append-only file") for line in table.stdout)
    status = command("microbatch", "status", "letters", "--json", url=url)
    assert status.wait() == 0
    (found,) = map(json.loads, status.stdout)
    assert found["held_back"] == "1 result waits for a handler; results_max is 1, and there is no consumer"
    results = command("microbatch", "results", "letters", url=url)
    assert results.wait() == 0, results.output
    assert len(results.stdout) == 2
    wait_until(lambda: not valkey_server.admin.hexists(KEY + "config", "held_back"))
