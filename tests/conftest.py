"""Fixtures of all suites: real servers, commands run as processes, and a clean environment."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from microbatch.broker.process.imports import collector_paused
from microbatch.worker.run_watch import RunWatch
from tests import parallel
from tests.certificates import Certificates, make_certificates
from tests.preloaded import Preloaded
from tests.processes import Process, script
from tests.programs import REQUIRE, required
from tests.servers import Program, RealServer
from tests.signals import children_have_default_signals, handlers_restored

FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leaves(*parts): keys of a batcher that the test leaves and means to")
    parallel.pytest_configure(config)
    try:
        required()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the modules and items of all tests from the garbage collector, which runs often in the tests."""
    with collector_paused():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal() -> Iterator[None]:
    """Start child processes as a terminal does, even when the tests run in the background or under nohup."""
    with children_have_default_signals():
        yield


@pytest.fixture(scope="session", autouse=True)
def preloaded_programs(signals_of_a_terminal: None) -> Iterator[None]:
    """Start Python programs without waiting for their imports."""
    with Preloaded():
        yield


@pytest.fixture(autouse=True)
def own_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers after each test, so that Ctrl-C still ends the run."""
    with handlers_restored():
        yield


@pytest.fixture(autouse=True)
def run_watches_close(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close each `RunWatch` that a test starts in this process, so that it logs nothing in the next test."""
    watches: list[RunWatch] = []
    init = RunWatch.__init__

    def noted(run_watch: RunWatch, *arguments: Any, **options: Any) -> None:
        init(run_watch, *arguments, **options)
        watches.append(run_watch)

    monkeypatch.setattr(RunWatch, "__init__", noted)
    yield
    for run_watch in watches:
        run_watch.close()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of the person who runs the tests, such as the address of a production server."""
    for name in list(os.environ):
        if name.startswith("MICROBATCH_") and name != REQUIRE:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # it has no .env, and files that a test writes are out of the way


class SharedServers:
    """The servers that all tests of a session use in turn. Each starts on first use."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._servers: dict[Program, RealServer] = {}
        self.stack = ExitStack()

    def get(self, program: Program) -> RealServer:
        """The server, empty and without other clients."""
        if program not in self._servers:
            server = RealServer(program, self._folders.mktemp(program))
            self._servers[program] = self.stack.enter_context(server)
        self._servers[program].refresh()
        return self._servers[program]


@pytest.fixture(scope="session")
def shared_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedServers]:
    """For the fixtures below. Tests use those."""
    servers = SharedServers(tmp_path_factory)
    with servers.stack:
        yield servers


class ServersInUse:
    """The servers that one test uses. Its own servers stop after everything that may look at them."""

    def __init__(self) -> None:
        self.all: list[RealServer] = []
        self.stack = ExitStack()

    def own(self, server: RealServer) -> RealServer:
        """Start ``server``, and stop it after the test."""
        self.all.append(self.stack.enter_context(server))
        return server

    def borrow(self, server: RealServer) -> RealServer:
        """Use a server that other tests will use after this one."""
        self.all.append(server)
        return server


@pytest.fixture
def servers_in_use() -> Iterator[ServersInUse]:
    """For the fixtures below. Tests use those."""
    servers = ServersInUse()
    with servers.stack:
        yield servers


@pytest.fixture(params=["valkey", "redis"])
def server(
    request: pytest.FixtureRequest, shared_servers: SharedServers, servers_in_use: ServersInUse
) -> RealServer:
    """An empty server. The test runs twice, on Valkey and on Redis."""
    return servers_in_use.borrow(shared_servers.get(request.param))


@pytest.fixture
def valkey_server(shared_servers: SharedServers, servers_in_use: ServersInUse) -> RealServer:
    """An empty Valkey, for tests that do not depend on the kind of server."""
    return servers_in_use.borrow(shared_servers.get("valkey"))


class MakeServer(Protocol):
    """Start a server. The options are those of ``RealServer``."""

    def __call__(self, program: Program = "valkey", **options: Any) -> RealServer: ...


@pytest.fixture
def make_server(servers_in_use: ServersInUse, tmp_path_factory: pytest.TempPathFactory) -> MakeServer:
    """Make servers for one test alone, which may kill them or needs special options."""

    def make(program: Program = "valkey", **options: Any) -> RealServer:
        return servers_in_use.own(RealServer(program, tmp_path_factory.mktemp(program), **options))

    return make


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of a server with TLS: ``make_server("redis", tls=certificates)``."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


class Command(Protocol):
    """Start a command from the environment that the tests run in. See ``Process``."""

    def __call__(
        self,
        name: str,
        *arguments: str | Path,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
    ) -> Process: ...


@pytest.fixture
def command() -> Iterator[Command]:
    """Run commands as a user does: ``command("microbatch", "status", "letters", url=server.url)``.

    ``url`` becomes MICROBATCH_REDIS_URL. Commands that still run after the test are killed.
    """
    with ExitStack() as stack:

        def start(
            name: str,
            *arguments: str | Path,
            url: str | None = None,
            env: Mapping[str, str] | None = None,
            cwd: Path | None = None,
            stdin: str | None = None,
        ) -> Process:
            settings = {**({"MICROBATCH_REDIS_URL": url} if url else {}), **(env or {})}
            words = [script(name), *map(str, arguments)]
            return stack.enter_context(Process(words, cwd=cwd, env=settings, stdin=stdin))

        yield start
