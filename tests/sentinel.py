"""A Sentinel, which tells clients where a server is, and promotes a replica when that server dies."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import redis

from microbatch.broker.process.parent_death import parent_death
from tests.servers import LOCALHOST, Program, RealServer, find_program, free_port, listening
from tests.waiting import wait_until

SERVICE = "letters-db"


class Sentinel:
    """One Sentinel process that watches ``server``, which must listen on TCP. For a ``with`` block."""

    def __init__(self, program: Program, folder: Path, server: RealServer) -> None:
        self.port = free_port()
        self._folder = folder
        config = folder / "sentinel.conf"
        config.write_text(
            f"bind {LOCALHOST}\n"
            f"dir {folder}\n"
            f"sentinel monitor {SERVICE} {LOCALHOST} {server.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
            + (f'sentinel auth-pass {SERVICE} "{server.password}"\n' if server.password else "")
            + "".join(f"{name} {value}\n" for name, value in listening(self.port, server.tls).items())
        )
        self._user = f":{quote(server.password, safe='')}@" if server.password else ""
        self._command = [find_program(program), str(config), "--sentinel"]
        self._process: subprocess.Popen[bytes] | None = None
        self._scheme, self._query = ("rediss", f"?{server.tls.query}") if server.tls else ("redis", "")
        own_url = f"{self._scheme}://{LOCALHOST}:{self.port}{self._query}"
        self.admin = redis.Redis.from_url(own_url, decode_responses=True)

    @property
    def url(self) -> str:
        """The ``redis_url`` that a user would set. The first address is that of a Sentinel that is down."""
        hosts = f"{LOCALHOST}:1,{LOCALHOST}:{self.port}"
        return f"{self._scheme}+sentinel://{self._user}{hosts}/{SERVICE}/0{self._query}"

    def __enter__(self) -> Sentinel:
        with (self._folder / "sentinel.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=parent_death(),  # noqa: PLW1509 - two system calls, no lock taken
            )
        wait_until(self._answers, message="an answer of the Sentinel")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.admin.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def replicas(self) -> int:
        """How many replicas of the server it knows and considers fit for promotion."""
        return sum(
            replica["flags"] == "slave" and replica["master-link-status"] == "ok"
            for replica in self.admin.sentinel_slaves(SERVICE)
        )

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.ConnectionError:
            return False
