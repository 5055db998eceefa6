"""A process whose server is away at its start waits for it, as it does later."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from microbatch.producer import Config, Unavailable, start
from tests.conftest import Command, MakeServer
from tests.servers import RealServer

PROGRAM = """\
import logging
from letters import config
from microbatch.producer import start

logging.basicConfig(level="INFO", format="%(message)s")
with start(config) as mb:
    mb.record_events(["a", "b"])
    mb.stop()
    mb.wait_for_results()
"""
WAITS = "no server answers at .*; trying again until it answers"


@pytest.fixture
def away(make_server: MakeServer) -> RealServer:
    """A server that was stopped and not started again."""
    server = make_server("valkey", tcp=True)
    server.kill()
    return server


def test_all_roles_wait_for_it_and_say_that_they_are_up(
    command: Command, tmp_path: Path, letters: str, away: RealServer
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    scheduler = command("microbatch", "scheduler", letters, url=away.url)
    worker = command("microbatch", "worker", letters, "--concurrency", "2", url=away.url)
    program = command(sys.executable, "program.py", url=away.url, cwd=tmp_path)
    for process in (scheduler, worker, program):
        process.wait_for_line(f"letters: {WAITS}")
    away.restart()
    scheduler.wait_for_line(f"letters: scheduling, at {away.url}")
    worker.wait_for_line(f"letters: running batches, 2 at once, at {away.url}")
    program.wait_for_line(f"letters: recording, at {away.url}")
    assert program.wait() == 0, program.output
    assert "batch total 3" in program.stdout
    for process in (scheduler, worker, program):
        assert sum("trying again" in line for line in process.lines) == 1
        assert sum("answers again" in line for line in process.lines) == 1


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_a_signal_ends_the_wait(command: Command, letters: str, away: RealServer, name: str) -> None:
    process = command("microbatch", name, letters, url=away.url)
    process.wait_for_line(WAITS)
    process.interrupt()
    assert process.wait() == 130


def test_a_wait_may_be_bounded(away: RealServer) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no server answers"):
        start(Config(name="letters", redis_url=away.url), wait=0.3)
    assert time.monotonic() - began >= 0.3
