"""What docs/operations.md gives as complete text, tried as it is."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from microbatch.ops.commands import dashboard
from microbatch.producer import Config
from tests.conftest import Command, MakeServer
from tests.servers import LOCALHOST, Program

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"

# An application with a result, a dead batch, and a stop() that ends a wait in another thread.
APP = """\
import threading
from microbatch.producer import Config, start

VALUES = {"a": 1, "b": 2, "d": 4}
dead = threading.Event()

def total(batch):
    return sum(VALUES[letter] for letter in batch)

def show(result):
    print("total", result)

def mourn(failure):
    print("dead", failure.error)
    dead.set()

config = Config(
    name="letters", batch_processor=total, result_handler=show, failure_handler=mourn,
    max_size=3, max_retries=0, isolate_failures=False,
)

if __name__ == "__main__":
    with start(config) as mb:
        consumer = threading.Thread(target=mb.wait_for_results)
        consumer.start()
        mb.record_events(list("abdccc"))
        dead.wait()
        mb.stop()
        consumer.join()
        print("all handled")
"""


@pytest.mark.parametrize("program", ["valkey", "redis"])
def test_the_access_rule_is_enough_for_all_roles(
    make_server: MakeServer, command: Command, tmp_path: Path, program: Program
) -> None:
    server = make_server(program, tcp=True)
    (rule,) = re.findall(r"^ {4}(ACL SETUSER microbatch .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    server.admin.execute_command(*rule.split())
    url = f"redis://microbatch:secret@{LOCALHOST}:{server.port}/0"
    (tmp_path / "letters.py").write_text(APP)

    scheduler = command("microbatch", "scheduler", "letters.py", url=url)
    worker = command("microbatch", "worker", "letters.py", "--concurrency", "2", url=url)
    application = command("python", "letters.py", url=url)
    assert application.wait() == 0, application.output
    assert sorted(application.stdout) == ["all handled", "dead KeyError: 'c'", "total 7"]

    recorder = command("microbatch", "record", "letters", "--create", url=url, stdin='"a"\n"b"\n')
    assert recorder.wait() == 0, recorder.output
    flush = command("microbatch", "flush", "letters", url=url)
    assert flush.wait() == 0, flush.output
    results = command("microbatch", "results", "letters", "--follow", url=url)
    results.wait_for_line("3")
    results.interrupt()
    status = command("microbatch", "status", "letters", url=url)
    assert status.wait() == 0, status.output
    rq = command("rq", "info", "--url", url, "mb:letters")
    assert rq.wait() == 0, rq.output
    for process in (scheduler, worker):
        process.terminate()
        assert process.wait() == 0, process.output
    assert server.admin.execute_command("ACL", "LOG") == []  # no command was refused


def units() -> dict[str, ConfigParser]:
    """The systemd units of the document, by name. test_readme.py checks that their commands parse."""
    found = re.findall(
        r"^```ini\n# /etc/systemd/system/(\S+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    parsed = {name: ConfigParser(interpolation=None) for name, _ in found}
    for name, text in found:
        parsed[name].read_string(text)
    return parsed


def test_the_units_start_by_themselves_and_let_a_batch_end() -> None:
    found = units()
    assert set(found) == {"letters-scheduler.service", "letters-worker.service"}
    for unit in found.values():
        assert unit["Service"]["Restart"] == "always"
        assert unit["Install"]["WantedBy"] == "multi-user.target"
    worker = found["letters-worker.service"]["Service"]
    assert worker["KillMode"] == "mixed"
    assert int(worker["TimeoutStopSec"]) > Config(name="letters").batch_timeout + 5


def test_the_dashboard_is_for_this_machine_unless_told_otherwise() -> None:
    params = dashboard.command.make_context("dashboard", ["letters"]).params
    assert "on {host}:{port}".format_map(params) in " ".join(PAGE.read_text("utf-8").split())
    assert params["host"] == "127.0.0.1"
