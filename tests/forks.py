"""Processes that are killed at one verb, forked from one that has imported everything: each is there at once.

``python -m tests.forks`` is the one that they are forked from. It reads from its input what to start.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from microbatch.broker.app import ENVIRONMENT_VARIABLE, load_config
from microbatch.broker.broker import Broker
from microbatch.broker.claims import RqPlace, claim_of
from microbatch.broker.errors import MicrobatchError
from microbatch.producer import Config, start
from microbatch.scheduler.scheduler import Scheduler
from microbatch.worker.lifeline import die_with_parent, lifeline
from microbatch.worker.rq_worker import work
from microbatch.worker.runner import BatchRunner
from tests.waiting import wait_until

log = logging.getLogger(__name__)

When = Literal["before", "after"]


class NotHandledError(Exception):
    """What a handler raises."""


class Forks:
    """The process that others are forked from. For a ``with`` block, which ends them all."""

    def __init__(self) -> None:
        self._running: list[Fork] = []

    def __enter__(self) -> Forks:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lifeline(),  # noqa: PLW1509 - two system calls, no lock taken
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def start(
        self, role: str, folder: Path, kill_at: str = "", when: When = "before", **settings: object
    ) -> Fork:
        """Start a process; ``kill_at`` is its last verb, as ``broker.ledger.Ledger.commit``."""
        log = folder / f"{role}-{time.monotonic_ns()}.log"
        env = {f"MICROBATCH_{name.upper()}": str(value) for name, value in settings.items()}
        fork = Fork(self, self.ask(role=role, log=str(log), kill_at=kill_at, when=when, env=env), log)
        self._running.append(fork)
        return fork

    def end_all(self) -> None:
        """End those that run on, as those of a test that failed."""
        for fork in list(self._running):
            fork.end()

    def has_ended(self, fork: Fork) -> None:
        """A fork is gone."""
        self._running.remove(fork)

    def ask(self, **request: object) -> int:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        return int(stdout.readline())


class Fork:
    """One of the processes."""

    def __init__(self, parent: Forks, pid: int, log: Path) -> None:
        self._parent = parent
        self._pid = pid
        self._log = log

    def wait(self, timeout: float = 60) -> int:
        """Its exit code, or minus the signal that it was killed by."""

        def code() -> list[int]:
            status = self._parent.ask(wait=self._pid)
            return [] if status < 0 else [os.waitstatus_to_exitcode(status)]

        (ended,) = wait_until(code, timeout, lambda: f"an end; it wrote:\n{self.log()}")
        self._parent.has_ended(self)
        return ended

    def end(self) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(self._pid, signal.SIGKILL)  # it is not reaped before somebody waits for it
        self.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")


def produce(config: Config) -> None:
    """Record an event, with an id if ids are remembered, and ask for it to be cut."""
    with start(config) as mb:
        if config.dedupe_window:
            mb.record_event(1, id="one")
        else:
            mb.record_event(1)
        mb.stop()


def produce_many(config: Config) -> None:
    with start(config) as mb:
        mb.record_events([1, 2, 3, 4])


def produce_lingering(config: Config) -> None:
    """Record two events, which are sent together."""
    with start(config, linger=10_000) as mb:
        for event in (1, 2):
            mb.record_event(event)
        mb.stop()


def schedule(config: Config) -> None:
    Scheduler(config).run()


def schedule_and_leave(config: Config) -> None:
    """Be active for a step."""
    scheduler = Scheduler(config)
    scheduler.run_once()
    scheduler.stop()
    scheduler.run()


def claim_and_give_back(config: Config) -> None:
    """What a worker does that is told to stop while it has a batch in hand."""
    runner = BatchRunner(config)
    for batch_id in runner.broker.ledger.in_flight():
        if (batch := runner.take(batch_id)) is not None:
            rq = RqPlace(f"rq:queue:{config.name}", "rq:job:")
            runner.broker.claims.give_back(claim_of(batch), rq, due_ms=runner.broker.clock.now_ms())


def consume(config: Config) -> None:
    with start(config) as mb:
        mb.wait_for_results()


def consume_and_leave(config: Config) -> None:
    mb = start(config)
    mb.wait_for_results(0.3)
    mb.close()


def consume_and_hand_back(config: Config) -> None:
    """Be given results, and close with none of them handled."""

    def fail(result: object) -> None:
        raise NotHandledError

    mb = start(config.model_copy(update={"result_handler": fail}))
    with suppress(NotHandledError):
        mb.wait_for_results()
    mb.close()


def replay(config: Config) -> None:
    broker = Broker(config)
    for batch in list(broker.dead):
        broker.dead.replay(batch.id)


def purge(config: Config) -> None:
    broker = Broker(config)
    for batch in list(broker.dead):
        broker.dead.purge(batch.id)


ROLES: dict[str, Callable[[Config], None]] = {
    "producer": produce,
    "bulk producer": produce_many,
    "lingering producer": produce_lingering,
    "scheduler": schedule,
    "leaving scheduler": schedule_and_leave,
    "worker": work,
    "stopping worker": claim_and_give_back,
    "consumer": consume,
    "leaving consumer": consume_and_leave,
    "consumer that hands back": consume_and_hand_back,
    "replay": replay,
    "purge": purge,
}


def kill_at(verb: str, when: When) -> None:
    """Have this process killed right before or right after its first call of ``verb``."""
    module, owner, name = verb.rsplit(".", 2)
    cls = getattr(importlib.import_module(f"microbatch.{module}"), owner)
    method = getattr(cls, name)

    @functools.wraps(method)
    def last(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            method(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(cls, name, last)


def live(request: dict[str, Any], parent: int) -> int:
    """What a fork does. Returns its exit code."""
    die_with_parent(signal.SIGKILL, parent)
    output = os.open(request["log"], os.O_WRONLY | os.O_CREAT)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    logging.basicConfig(level="INFO", force=True)
    os.environ.update(request["env"])
    os.chdir(Path(request["log"]).parent)
    os.environ[ENVIRONMENT_VARIABLE] = "app.py"
    config = load_config("app.py")
    if request["kill_at"]:
        kill_at(request["kill_at"], request["when"])
    try:
        ROLES[request["role"]](config)
    except MicrobatchError:
        log.exception("it ends")
        return 1
    return 0


def main() -> None:
    """Fork, and tell the pid; or tell how a fork has ended, -1 for not yet."""
    parent = os.getpid()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = status if pid else -1
        elif answer := os.fork():
            pass
        else:
            os._exit(live(request, parent))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
