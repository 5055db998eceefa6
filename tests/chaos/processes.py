"""The processes of a run: its actors, and which of them have a batch or a result in hand.

An actor whose role begins with worker is a pool, whose child runs the batches.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.chaos import app
from tests.chaos.conditions import Conditions
from tests.chaos.history import INVOKE, read_on
from tests.preloaded import Forked, spawn
from tests.processes import clean_environment, descendants, is_alive
from tests.proxy import Proxy
from tests.servers import RealServer
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
_RESTART_SECONDS = 0.3


class Actor:
    """One process, which is restarted whenever it ends, until it retires."""

    def __init__(
        self,
        name: str,
        server: RealServer,
        folder: Path,
        *,
        seed: int,
        mutant: str = "",
        conditions: Conditions | None = None,
        batchers: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.role = name.rpartition("-")[0]
        self.proxy = Proxy(server)
        self.retired = False
        self.ends: list[int] = []
        """The exit codes of its process, except those of kills."""
        self._folder = folder
        self._seed = seed
        self._starts = 0
        self._ended_at: float | None = None
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._environment = {
            "MICROBATCH_REDIS_URL": self.proxy.url,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            app.HISTORY: str(folder / "history"),
            app.WHO: name,
            app.MUTANT: mutant,
            app.BATCHERS: ",".join(batchers),
            app.CONDITIONS: conditions.encode() if conditions is not None else "",
        }

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def hand(self) -> int:
        """The process that does the work: a pool's worker if there is one, otherwise the actor's process."""
        workers = descendants(self.pid)[1:] if self.running else []  # the first is the pool's fork server
        return workers[0] if workers else self.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process.

        Call this in a thread that lives as long as the run: the process dies with it.
        """
        command = [
            sys.executable,
            "-m",
            "tests.chaos.roles",
            self.role,
            f"{self._seed}.{self.name}.{self._starts}",
        ]
        log_file = self._folder / f"{self.name}.log"
        with log_file.open("ab") as log, Path(os.devnull).open("rb") as nothing:
            environment = clean_environment(self._environment)
            streams = nothing.fileno(), log.fileno(), log.fileno()
            self._process = spawn(command, streams, cwd=self._folder, env=environment)
        self._starts += 1
        self._ended_at = None

    def look_after(self) -> None:
        """If the process has ended, start it again after a moment."""
        if self.running or self.retired or self._process is None:
            return
        if self._ended_at is None:
            self._ended_at = time.monotonic()
            if (code := self._process.wait()) != -signal.SIGKILL:
                self.ends.append(code)
        elif time.monotonic() - self._ended_at >= _RESTART_SECONDS:
            self.start()

    def send(self, number: signal.Signals, pid: int = 0) -> None:
        """Send a signal to the process if it runs, or to one of its descendants."""
        if self.running and pid in (0, self.pid):
            os.kill(self.pid, number)
        elif self.running and pid in descendants(self.pid):
            with suppress(ProcessLookupError):  # it has ended
                os.kill(pid, number)

    def kill(self) -> None:
        """Send SIGKILL. The child ends with its parent."""
        hand = self.hand
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            wait_until(lambda: not is_alive(hand), message=f"{self.name} was killed: the end of its child")

    def dismiss(self) -> None:
        """Send SIGTERM: the process finishes what it has in hand, and is not started again."""
        if not self.retired:
            self.retired = True
            self._note_ends_of_children()
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)

    def retire(self, seconds: float) -> None:
        """End the process for good. Kill it if it has not ended after ``seconds``."""
        self.dismiss()
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def _note_ends_of_children(self) -> None:
        """Read a pool's log: it starts another worker for each that ends, and logs the exit code."""
        log = (self._folder / f"{self.name}.log").read_text(errors="replace")
        self.ends += [int(code) for code in re.findall(r"worker \d+ ended with exit code (\d+)", log)]


class Hands:
    """Which processes have a batch or a result in hand, according to the history."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._busy: dict[str, int] = {}

    def busy(self, role: str) -> tuple[str, int]:
        """The actor of this role that most recently got something in hand, and the process.

        The name is empty if there is none.
        """
        if self._path.exists():
            notes, self._offset = read_on(self._path, self._offset)
            for note in notes:
                if note.what in ("run", "handle"):
                    self._busy.pop(note.who, None)
                    if note.state == INVOKE:
                        self._busy[note.who] = note.pid
        return next(
            ((who, pid) for who, pid in reversed(self._busy.items()) if who.startswith(role)), ("", 0)
        )
