"""The programs of the pages do what the pages say. Each is run as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microbatch.broker.wire.event import event_body
from tests.conftest import Command
from tests.servers import RealServer
from tests.waiting import wait_until

DOCS = Path(__file__).parents[2] / "docs"
APP = """\
from microbatch.producer import Config

config = Config(name="letters", dedupe_window=60)
"""

NOTED = """\
with open("imports", "a") as file:
    file.write("one\\n")

def predict(batch):
    return len(batch)
"""


def programs(page: str) -> Mapping[str, str]:
    """The programs of a page, by the name in their first line."""
    text = (DOCS / page).read_text("utf-8")
    return dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    ("name", "events"),
    [("record.py", ["a", "b", "d", "a", "b"]), ("loop.py", list("abdab")), ("linger.py", list("abdabba"))],
)
def test_events_are_recorded(
    command: Command, tmp_path: Path, valkey_server: RealServer, name: str, events: list[str]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / name).write_text(programs("recording.md")[name])
    program = command("python", name, url=valkey_server.url)
    assert program.wait() == 0, program.output
    held: Any = valkey_server.admin.lrange("mb:{letters}:events", 0, -1)
    assert [json.loads(event_body(raw)) for raw in held] == events


def test_an_async_processor_runs(command: Command, tmp_path: Path, valkey_server: RealServer) -> None:
    (tmp_path / "total.py").write_text(programs("processors.md")["total.py"])
    for role in ("scheduler", "worker"):
        command("microbatch", role, "total.py", url=valkey_server.url)
    program = command("python", "total.py", url=valkey_server.url)
    assert program.wait() == 0, program.output
    assert program.stdout == ["total 7"]


def test_a_worker_runs_batches_in_the_process_that_imported_the_app(
    command: Command, tmp_path: Path, valkey_server: RealServer
) -> None:
    (tmp_path / "model.py").write_text(programs("processors.md")["model.py"])
    command("microbatch", "scheduler", "model.py", url=valkey_server.url)
    command("microbatch", "worker", "model.py", "--concurrency", "2", url=valkey_server.url)
    command("microbatch", "record", "model.py", url=valkey_server.url, stdin="1\n2\n")
    wait_until(lambda: valkey_server.admin.hget("mb:{letters}:stats", "done_events") == b"2")


def test_only_workers_import_a_processor_that_is_named(
    command: Command, tmp_path: Path, valkey_server: RealServer
) -> None:
    (tmp_path / "model.py").write_text(NOTED)
    (tmp_path / "app.py").write_text(APP.replace("dedupe_window=60", "batch_processor='model:predict'"))
    command("microbatch", "scheduler", "app.py", url=valkey_server.url).wait_for_line("active")
    for words in (["record", "app.py"], ["status", "app.py"], ["flush", "app.py"]):
        done = command("microbatch", *words, url=valkey_server.url, stdin="1\n")
        assert done.wait() == 0, done.output
    assert not (tmp_path / "imports").exists()
    command("microbatch", "worker", "app.py", url=valkey_server.url)
    wait_until(lambda: valkey_server.admin.hget("mb:{letters}:stats", "done_events") == b"1")
    assert (tmp_path / "imports").exists()


def test_each_caller_gets_the_result_of_its_own_event(command: Command, tmp_path: Path) -> None:
    for name, text in programs("submitting.md").items():
        (tmp_path / name).write_text(text)
    program = command("microbatch", "run", "square.py")
    assert program.wait() == 0, program.output
    assert program.stdout == ["49", "[1, 4, 9]"]
    stack = command("microbatch", "up", "square.py")
    url = stack.wait_for_line(r"MICROBATCH_REDIS_URL=(\S+)")[1]
    program = command("python", "ask.py", url=url)
    assert program.wait() == 0, program.output
    assert program.stdout == ["49", "[0, 1, 4]"]
    stack.interrupt()
    stack.wait()


def test_rows_are_matched_to_the_events_that_asked_for_them() -> None:
    found: dict[str, Any] = {}
    exec(programs("submitting.md")["users.py"], found)  # noqa: S102 - a program of ours

    class Database:
        def execute(self, _query: str, arguments: list[list[int]]) -> Any:
            rows = [(user_id, f"user {user_id}") for user_id in reversed(arguments[0]) if user_id != 2]
            return SimpleNamespace(fetchall=lambda: rows)

    found["db"] = Database()
    assert found["load_users"]([1, 2, 3]) == {0: (1, "user 1"), 2: (3, "user 3")}
