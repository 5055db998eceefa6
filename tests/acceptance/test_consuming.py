"""The programs of docs/consuming.md do what the page says. Each is written to a file and run as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Command, MakeServer
from tests.processes import Process
from tests.servers import RealServer

PAGE = Path(__file__).parents[2] / "docs" / "consuming.md"

APP = """\
from microbatch.producer import Config

def total(batch: list[str]) -> int:
    return len(batch)

def show(result: int) -> None:
    print("total", result, flush=True)

config = Config(name="letters", batch_processor=total, result_handler=show, frequency=100)
"""

# The minimum that the programs use of each framework. We do not depend on the frameworks themselves.
FASTAPI = """\
from types import SimpleNamespace

class FastAPI:
    def __init__(self, lifespan):
        self.lifespan, self.state, self.routes = lifespan, SimpleNamespace(), {}

    def post(self, path):
        def register(route):
            self.routes[path] = route
            return route
        return register
"""
RUN_SYNC = """\
import asyncio

run_sync = asyncio.to_thread
"""
COMMAND = """\
class BaseCommand:
    pass
"""

SERVE = """\
import asyncio
from pathlib import Path
from service import app

async def main():
    async with app.lifespan(app):
        await asyncio.to_thread(app.routes["/letters/{letter}"], "a")
        while not Path("enough").exists():
            await asyncio.sleep(0.01)
    print("ended", flush=True)

asyncio.run(main())
"""
MANAGE = """\
from letters.management.commands.consume_letters import Command

Command().handle()
print("ended", flush=True)
"""
GUNICORN = """\
import os, runpy, time
hooks = runpy.run_path("gunicorn.conf.py")
if pid := os.fork():
    assert os.waitpid(pid, 0)[1] == 0
    print("ended", flush=True)
else:
    hooks["post_fork"](None, None)
    hooks["post_fork"].__globals__["batcher"].record_event("a")
    while not os.path.exists("enough"):
        time.sleep(0.01)
    hooks["worker_exit"](None, None)
"""


def programs() -> dict[str, str]:
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return dict(blocks)


class Site:
    """A folder with the programs of the page and their imports, and all parts of their batcher."""

    def __init__(self, folder: Path, server: RealServer, command: Command) -> None:
        self._folder, self._command, self._url = folder, command, server.url
        files = {
            "app.py": APP,
            "fastapi.py": FASTAPI,
            "anyio/to_thread.py": RUN_SYNC,
            "django/core/management/base.py": COMMAND,
            "serve.py": SERVE,
            "manage.py": MANAGE,
            "serve_forks.py": GUNICORN,
            **programs(),
        }
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for role in ("scheduler", "worker"):
            command("microbatch", role, "app.py", url=self._url)

    def run(self, name: str) -> Process:
        return self._command("python", name, url=self._url)

    def record(self) -> None:
        process = self._command("microbatch", "record", "app.py", url=self._url, stdin='"a"\n')
        assert process.wait() == 0, process.output

    def enough(self) -> None:
        (self._folder / "enough").touch()


@pytest.fixture
def site(tmp_path: Path, make_server: MakeServer, command: Command) -> Site:
    return Site(tmp_path, make_server("valkey"), command)


@pytest.mark.parametrize(
    ("name", "events"),
    [("script.py", 3), ("background.py", 3), ("careful.py", 1), ("stream.py", 3), ("handlers.py", 3)],
)
def test_a_program_that_ends_when_all_is_handled(site: Site, name: str, events: int) -> None:
    program = site.run(name)
    assert program.wait(40) == 0, program.output
    assert sum(int(line.removeprefix("total ")) for line in program.stdout) == events
    assert program.stderr == []


@pytest.mark.parametrize("name", ["consumer.py", "manage.py"])
def test_a_program_that_consumes_until_it_is_told_to_end(site: Site, name: str) -> None:
    program = site.run(name)
    site.record()
    program.wait_for_line("total 1", timeout=40)
    program.terminate()
    assert program.wait() == 0, program.output
    assert program.stderr == []


@pytest.mark.parametrize("name", ["serve.py", "serve_forks.py"])
def test_a_service_that_consumes_until_it_ends(site: Site, name: str) -> None:
    program = site.run(name)
    program.wait_for_line("total 1", timeout=40)
    site.enough()
    program.wait_for_line("ended")
    assert program.wait() == 0, program.output
    assert program.stderr == []


def test_every_program_of_the_page_is_run_here(site: Site) -> None:
    assert programs().keys() == {
        "script.py",
        "consumer.py",
        "stream.py",
        "handlers.py",
        "background.py",
        "careful.py",
        "service.py",  # run by serve.py
        "letters/management/commands/consume_letters.py",  # run by manage.py
        "gunicorn.conf.py",  # used by serve_forks.py
        "forget.py",
    }
    program = site.run("forget.py")
    assert program.wait() == 0, program.output
