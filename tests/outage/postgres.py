"""A private PostgreSQL server, which can be stopped and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

_DEBIAN = Path("/usr/lib/postgresql")


def find_programs() -> Path | None:
    """The folder of PostgreSQL's programs, or None if it is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max(_DEBIAN.glob("*/bin"), default=None)


class Postgres:
    """A server in ``folder``, on a unix socket there. For a ``with`` block."""

    def __init__(self, folder: Path) -> None:
        programs = find_programs()
        assert programs is not None, "PostgreSQL is not installed (Debian: postgresql)"
        self._programs = programs
        self._folder = folder
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        self.dsn = f"host={folder} dbname=postgres user=postgres connect_timeout=2"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        if self._user:
            shutil.chown(self._folder, self._user)
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", str(self._folder / "data"))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, and return when it answers."""
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self._pg_ctl("start", "--wait", "-l", str(self._folder / "log"), "-o", options)

    def stop(self) -> None:
        """Stop the server, and close its connections."""
        self._pg_ctl("stop", "--wait", "--mode=fast")

    def _pg_ctl(self, *words: str) -> None:
        self._run("pg_ctl", "--pgdata", str(self._folder / "data"), *words)

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [str(self._programs / program), *words],
            check=True, user=self._user, cwd=self._folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
