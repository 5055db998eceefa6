"""An app's surroundings: its folder, its neighbours, its logging, and a program without a guard."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from microbatch.broker.broker import Broker
from microbatch.ops import rq_facts
from microbatch.producer import Config, start
from tests.conftest import Command
from tests.processes import Process, script
from tests.servers import RealServer
from tests.waiting import wait_until

UNGUARDED = """\
from microbatch.producer import Config, start

def total(batch: list[int]) -> int:
    return sum(batch)

config = Config(name="letters", batch_processor=total)

with start(config) as mb:
    mb.record_event(1)
    mb.stop()
    mb.wait_for_results()
"""
WITH_AN_APP = {
    "run": ["run", "app.py"],
    "up": ["up", "app.py"],
    "scheduler": ["scheduler", "app:config"],
    "worker": ["worker", "app.py"],
    "record": ["record", "app:config"],
    "results": ["results", "app:config", "--handle"],
    "status": ["status", "app.py"],
    "flush": ["flush", "app.py"],
    "verify": ["verify", "app.py"],
}


@pytest.mark.parametrize("name", WITH_AN_APP)
def test_a_program_without_a_guard_is_told_in_one_line(
    command: Command, tmp_path: Path, valkey_server: RealServer, name: str
) -> None:
    (tmp_path / "app.py").write_text(UNGUARDED)
    url = None if name in ("run", "up") else valkey_server.url
    process = command("microbatch", *WITH_AN_APP[name], url=url)
    assert process.wait(20) == 2
    assert process.stdout == []
    (line,) = process.stderr
    assert line == (
        f"microbatch: error: {WITH_AN_APP[name][1].removesuffix(':config')} can't be imported: "
        f"{tmp_path}/app.py, line 8: it calls start() while it is imported, and every worker and scheduler "
        'imports the app; put the program under `if __name__ == "__main__":`, or into a function'
    )
    broker = Broker(Config(name="letters", redis_url=valkey_server.url))
    assert broker.events.waiting() == 0
    broker.close()


def test_a_slow_import_is_told_once_and_where_it_is(
    command: Command, tmp_path: Path, valkey_server: RealServer
) -> None:
    (tmp_path / "app.py").write_text("import time\n\ntime.sleep(7)\n")
    process = command("microbatch", "status", "app.py", url=valkey_server.url)
    assert process.wait(30) == 2
    first, last = process.stderr
    assert first.endswith(f"WARNING still importing app.py after 5 s; it is at {tmp_path}/app.py, line 3")
    assert last.startswith("microbatch: error: app.py has no Config")


@pytest.mark.parametrize("app", ["letters.py", "letters:config"])
def test_neighbours_with_names_of_python_s_own_modules_harm_nothing(
    tmp_path: Path, letters: str, app: str
) -> None:
    for name in ("random", "queue", "calendar", "logging", "uuid", "selectors", "click", "redis"):
        if name not in ("click", "redis"):  # installed packages, which a folder may replace
            (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the {name} of the folder')\n")
    with Process([script("microbatch"), "up", "--workers", "1", app], cwd=tmp_path, fresh=True) as stack:
        stack.wait_for_line("letters is up: a scheduler and a worker")
        stack.interrupt()
        assert stack.wait() == 130
    assert "of the folder" not in stack.output


@pytest.mark.parametrize("name", ["click", "redis", "random", "logging", "pydantic"])
def test_a_folder_replaces_nothing_of_the_command_as_a_module(
    tmp_path: Path, valkey_server: RealServer, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the {name} of the folder')\n")
    words = [sys.executable, "-m", "microbatch.ops", "status", "letters", "--json"]
    env = {"MICROBATCH_REDIS_URL": valkey_server.url}
    with Process(words, cwd=tmp_path, env=env, fresh=True) as process:
        assert process.wait() == 0, process.output


@pytest.mark.parametrize("app", ["rq.py", "rq:config"])
def test_an_app_with_the_name_of_a_package_in_use_starts_no_worker(
    tmp_path: Path, valkey_server: RealServer, app: str
) -> None:
    (tmp_path / "rq.py").write_text(
        "from microbatch.producer import Config\nconfig = Config(name='letters', batch_processor=len)\n"
    )
    env = {"MICROBATCH_REDIS_URL": valkey_server.url}
    with Process([script("microbatch"), "worker", app], cwd=tmp_path, env=env, fresh=True) as worker:
        assert worker.wait() == 2, worker.output
    (line,) = worker.stderr
    assert "rq.py has the name of the module 'rq' that is imported from" in line


def test_run_says_that_a_neighbour_hides_a_module_from_the_program(tmp_path: Path, letters: str) -> None:
    (tmp_path / "random.py").write_text("raise RuntimeError('the random of the folder')\n")
    (tmp_path / "helpers.py").write_text("")
    with Process(
        [script("microbatch"), "run", "--workers", "1", letters, "ab"], cwd=tmp_path, fresh=True
    ) as process:
        assert process.wait() == 1
    assert process.stderr[0] == (
        f"microbatch run: {tmp_path}/random.py has the name of a module of Python's own library, "
        "and the program imports it in that module's place; rename it"
    )
    assert "RuntimeError: the random of the folder" in process.stderr


LOGGING = {
    "dictConfig": """\
import logging.config
logging.config.dictConfig({"version": 1})
""",
    "dictConfig with handlers": """\
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"own": {"format": "own: %(message)s"}},
    "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
    "root": {"level": "INFO", "handlers": ["own"]},
})
""",
    "fileConfig": """\
import logging.config
from pathlib import Path
Path("log.ini").write_text(
    "[loggers]\\nkeys=root\\n[handlers]\\nkeys=own\\n[formatters]\\nkeys=\\n"
    "[handler_own]\\nclass=StreamHandler\\nargs=()\\n[logger_root]\\nlevel=INFO\\nhandlers=own\\n"
)
logging.config.fileConfig("log.ini")
""",
}


@pytest.mark.parametrize("name", LOGGING)
def test_an_app_s_own_logging_silences_neither_worker_nor_scheduler(
    command: Command, tmp_path: Path, letters: str, valkey_server: RealServer, name: str
) -> None:
    path = tmp_path / letters
    path.write_text(LOGGING[name] + path.read_text())
    scheduler = command("microbatch", "scheduler", letters, url=valkey_server.url)
    scheduler.wait_for_line("letters: .*active")
    pool = command("microbatch", "worker", letters, url=valkey_server.url)
    (worker,) = wait_for_workers(pool)
    os.kill(worker, signal.SIGKILL)
    pool.wait_for_line(f"worker {worker} ended with signal SIGKILL; starting another")


def test_a_processor_s_own_logging_silences_no_worker(
    command: Command, tmp_path: Path, letters: str, valkey_server: RealServer
) -> None:
    path = tmp_path / letters
    changed = "    if batch == ['a']: set_up_logging()\n    return sum"
    text = path.read_text().replace("    return sum", changed)
    logs = "import logging.config\n\ndef set_up_logging():\n    logging.config.dictConfig({'version': 1})\n"
    path.write_text(logs + text)
    command("microbatch", "scheduler", letters, url=valkey_server.url)
    pool = command("microbatch", "worker", letters, url=valkey_server.url)
    with start(Config(name="letters", redis_url=valkey_server.url)) as batcher:
        batcher.record_event("a")
        wait_until(lambda: valkey_server.admin.xlen("mb:{letters}:results") == 1)
        batcher.record_event("c")  # the processor has no value for it
    pool.wait_for_line("letters: batch .* KeyError")


POLLING = """\
import atexit, threading, time
from pathlib import Path

def poll():
    time.sleep(600)

def begin():
    threading.Thread(target=poll, name="poller").start()

atexit.register(lambda: Path("at the end").touch())
"""
GOES_ON = "ending, although threads of the app go on: poller"


def polling(path: Path, *, in_processor: bool = False) -> None:
    """Make the app start a thread that does not end, at its import or when it processes a batch."""
    text = path.read_text()
    if in_processor:
        text = text.replace("    return sum", "    begin()\n    return sum")
    path.write_text(POLLING + ("" if in_processor else "begin()\n") + text)


@pytest.mark.parametrize("name", ["worker", "scheduler"])
def test_a_thread_of_the_app_does_not_put_off_the_end(
    command: Command, tmp_path: Path, letters: str, valkey_server: RealServer, name: str
) -> None:
    polling(tmp_path / letters)
    process = command("microbatch", name, letters, url=valkey_server.url)
    if name == "worker":
        wait_for_a_worker(valkey_server)
    else:
        process.wait_for_line("letters: .*active")
    process.terminate()
    assert process.wait(12) == 0
    assert GOES_ON in process.output
    assert (tmp_path / "at the end").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status", "letters.py", "--json"], 0),
        (["record", "letters:config"], 0),
        (["flush", "letters.py"], 0),
        (["verify", "letters.py"], 0),
        (["results", "letters.py"], 0),
        (["status", "letters.py:nothing"], 2),
    ],
)
def test_a_thread_of_the_app_does_not_put_off_the_end_of_a_command(
    tmp_path: Path, letters: str, valkey_server: RealServer, arguments: list[str], code: int
) -> None:
    polling(tmp_path / letters)
    env = {"MICROBATCH_REDIS_URL": valkey_server.url}
    with Process([script("microbatch"), *arguments], cwd=tmp_path, env=env, stdin="") as process:
        assert process.wait(12) == code
        assert GOES_ON in process.output


def test_a_thread_of_a_processor_leaves_no_place_in_the_pool_dead(
    command: Command, tmp_path: Path, letters: str, valkey_server: RealServer
) -> None:
    polling(tmp_path / letters, in_processor=True)
    command("microbatch", "scheduler", letters, url=valkey_server.url)
    pool = command("microbatch", "worker", letters, url=valkey_server.url)
    with start(Config(name="letters", redis_url=valkey_server.url)) as batcher:
        batcher.record_event("a")
    results = command("microbatch", "results", "letters", url=valkey_server.url)
    results.wait_for_line('"result":1')
    (worker,) = pool.workers()
    os.kill(worker, signal.SIGTERM)
    pool.wait_for_line(f"worker {worker} ended with exit code 0; starting another", timeout=12)
    assert GOES_ON in pool.output
    pool.terminate()
    assert pool.wait(12) == 0


def test_threads_that_wait_for_work_end_by_themselves(
    command: Command, tmp_path: Path, letters: str, valkey_server: RealServer
) -> None:
    """Python tells an executor's threads to end."""
    path = tmp_path / letters
    executor = "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(int)\n"
    path.write_text(executor + path.read_text())
    process = command("microbatch", "flush", letters, url=valkey_server.url)
    assert process.wait(12) == 0
    assert "go on" not in process.output


def wait_for_a_worker(server: RealServer) -> None:
    broker = Broker(Config(name="letters", redis_url=server.url))
    wait_until(lambda: rq_facts.workers_of(broker))
    broker.close()


def wait_for_workers(pool: Process) -> list[int]:
    wait_until(pool.workers)
    return pool.workers()
