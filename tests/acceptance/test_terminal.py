"""Whatever the server holds, a terminal gets only text that it does not act upon."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
from typing import BinaryIO

import pytest

from microbatch.broker.broker import Broker
from microbatch.broker.process.plain import plain
from microbatch.broker.wire.failure import Failure
from microbatch.producer import Config
from tests.conftest import MakeServer
from tests.processes import clean_environment, script
from tests.servers import RealServer
from tests.unit.steps import bury, claim, record_and_cut

HOSTILE = "\x1b[2J\x9b31m\x85\r\x07\u202e\u2028"
"""Clears the screen, changes the colour, begins lines, rings the bell, and reverses the writing direction."""
_OF_RICH = r"\x1b\[[0-9;]+m|\x1b\[\?25[lh]|\r(\x1b\[1A)?\x1b\[2K|\r\n"
"""Colours, the cursor of a progress bar, and line ends on a terminal."""


@pytest.fixture
def hostile(make_server: MakeServer) -> RealServer:
    """A server on which every text that a command shows is hostile."""
    server = make_server()
    die(server)
    admin, mb = server.admin, "mb:{letters}:"
    admin.hset(f"{mb}config", mapping={"frequency": 1000, "max_size": 3})
    admin.set(f"{mb}lease", f"{HOSTILE}:1:token")
    admin.zadd(f"{mb}schedulers", {f"{HOSTILE}:2:token": time.time() * 1000})
    admin.hset(f"{mb}stats", HOSTILE, "1")
    worker = f"rq:worker:{HOSTILE}"
    admin.sadd("rq:workers", worker)
    admin.sadd("rq:workers:mb:letters", worker)
    admin.hset(worker, mapping={"state": HOSTILE, "queues": "mb:letters", "current_job": HOSTILE})
    admin.rpush("rq:queue:mb:letters", HOSTILE)
    admin.rpush(f"mb:{{{HOSTILE}}}:events", HOSTILE)
    return server


def die(server: RealServer) -> None:
    """Leave a dead batch whose event, error and traceback are hostile."""
    broker = Broker(Config(name="letters", redis_url=server.url))
    batch_id = record_and_cut(broker, HOSTILE)
    failure = Failure(f"ValueError: {HOSTILE}\nbatch     another", f"Traceback\n{HOSTILE}", 1)
    assert bury(broker, batch_id, claim(broker, batch_id).run, failure=failure)
    broker.close()


def on_a_terminal(url: str, *words: str) -> str:
    """What a command writes to a terminal, on stdout and stderr."""
    settings = {"MICROBATCH_REDIS_URL": url, "TERM": "xterm", "COLUMNS": "80"}
    ours, terminal = pty.openpty()
    with (
        os.fdopen(ours, "rb", 0) as screen,
        subprocess.Popen(
            [script("microbatch"), *words],
            env=clean_environment(settings), stdin=terminal, stdout=terminal, stderr=terminal,
        ),
    ):  # fmt: skip
        os.close(terminal)
        return b"".join(iter(lambda: _next(screen), b"")).decode()


def _next(screen: BinaryIO) -> bytes:
    try:
        return screen.read(1000)
    except OSError:  # the last program on it has ended
        return b""


@pytest.mark.parametrize(
    "words",
    [
        "status letters", "status letters --json", "status", "list", "list --json",
        "dead list letters", "dead list letters --json", "dead show letters --all",
        "dead show letters --all --json", "verify letters",
        f"status {HOSTILE}", f"dead show letters {HOSTILE}", f"sta{HOSTILE}tus",
        f"record letters {HOSTILE}", f"worker {HOSTILE}.py",
    ],
    ids=ascii,
)  # fmt: skip
def test_no_command_shows_what_a_terminal_would_act_upon(hostile: RealServer, words: str) -> None:
    shown = on_a_terminal(hostile.url, *words.split(" "))
    text = re.sub(_OF_RICH, "", shown)
    assert plain(text) == text
    assert any(code in text for code in (r"\x1b", r"\u001b")), text


def test_the_dead_fit_a_terminal_and_the_ids_shown_are_enough(hostile: RealServer) -> None:
    lines = on_a_terminal(hostile.url, "dead", "list", "letters").splitlines()
    shown = [re.sub(_OF_RICH, "", line) for line in lines]
    assert max(map(len, shown)) <= 80
    batch_id = shown[1].split()[0]
    assert len(batch_id) == 8
    assert f"batch     {batch_id}" in on_a_terminal(hostile.url, "dead", "show", "letters", batch_id)
