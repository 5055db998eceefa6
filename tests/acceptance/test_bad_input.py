"""A user's mistakes: exit code 2, and one line that says what is wrong and what to do, but no traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.acceptance.fake_server import old_server
from tests.conftest import Command, MakeServer
from tests.processes import Process
from tests.servers import LOCALHOST

# Each command, with an app if it needs one. `demo` has its own server.
ALL = {
    "run": ["run", "letters.py"],
    "up": ["up", "letters.py"],
    "scheduler": ["scheduler", "letters.py"],
    "worker": ["worker", "letters.py"],
    "record": ["record", "letters"],
    "results": ["results", "letters"],
    "results --follow": ["results", "letters.py", "--follow", "--handle"],
    "list": ["list"],
    "status": ["status", "letters"],
    "status of all": ["status"],
    "status --watch": ["status", "letters", "--watch"],
    "flush": ["flush", "letters"],
    "dead list": ["dead", "list", "letters"],
    "dead replay": ["dead", "replay", "letters", "--all"],
    "verify": ["verify", "letters"],
    "dashboard": ["dashboard", "letters", "--port", "0"],
}
TO_FAIL_AT_ONCE = {"scheduler": ["--no-wait"], "worker": ["--no-wait"]}
WITHOUT_A_SERVER_OF_THEIR_OWN = [name for name in ALL if name not in ("run", "up")]
WITH_AN_APP = ["run", "up", "scheduler", "worker", "record", "results", "status", "flush", "dashboard"]

IMPORT = "from microbatch.producer import Config\n"


def error_of(process: Process) -> str:
    """The one line that the command wrote before it ended with 2."""
    assert process.wait() == 2, process.output
    assert process.stdout == []
    (line,) = process.stderr
    assert line.startswith("microbatch: error: ")
    return line.removeprefix("microbatch: error: ")


@pytest.mark.parametrize("name", ALL)
def test_no_server_there(command: Command, letters: str, name: str) -> None:
    with socket.socket() as unused:
        unused.bind((LOCALHOST, 0))  # nobody listens there
        port = unused.getsockname()[1]
        url = f"redis://me:secret@{LOCALHOST}:{port}/0"
        process = command("microbatch", *ALL[name], *TO_FAIL_AT_ONCE.get(name, []), url=url)
        # The command does not wait for a server, which would take longer. Most of the time is Python's start.
        # `run` and `up` first say that they use the server that is set.
        assert process.wait(20) == 2
    line = process.stderr[-1]
    assert line.startswith(f"microbatch: error: no server answers at redis://{LOCALHOST}:{port}/0: ")
    assert "secret" not in process.output


@pytest.mark.parametrize("name", WITHOUT_A_SERVER_OF_THEIR_OWN)
def test_no_server_set(command: Command, letters: str, name: str) -> None:
    line = error_of(command("microbatch", *ALL[name]))
    assert line.startswith("redis_url is not set: set MICROBATCH_REDIS_URL to your Redis or Valkey server")
    assert line.endswith("or use `microbatch run` for a local one")


@pytest.mark.parametrize("url", ["redis://:wrong@{}/0", "redis://nobody:wrong@{}/0", "redis://{}/0"])
def test_a_wrong_password(command: Command, make_server: MakeServer, url: str) -> None:
    server = make_server(tcp=True, password="right")
    process = command("microbatch", "status", "letters", url=url.format(f"{LOCALHOST}:{server.port}"))
    line = error_of(process)
    assert f"the server at redis://{LOCALHOST}:{server.port}/0" in line
    assert "password" in line
    assert "MICROBATCH_REDIS_URL" in line
    assert "wrong" not in line


@pytest.mark.parametrize("name", ["status", "scheduler", "worker", "record", "results", "flush", "dashboard"])
def test_a_server_that_is_too_old(command: Command, letters: str, name: str) -> None:
    with old_server() as url:
        line = error_of(command("microbatch", *ALL[name], url=url))
    assert line.startswith(f"the server at {url} is Redis 6.0.16; Microbatch needs Redis 7.0")


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port"])
def test_an_address_of_no_known_kind(command: Command, url: str) -> None:
    assert error_of(command("microbatch", "status", "letters", url=url)).startswith("redis_url: ")


@pytest.mark.parametrize("name", WITH_AN_APP)
@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("nothing.py", "there is no file 'nothing.py'"),
        (
            "nothing:config",
            "there is no module 'nothing' here; name a module or a file, as letters:config or letters.py",
        ),
    ],
)
def test_an_app_that_does_not_exist(command: Command, name: str, app: str, message: str) -> None:
    assert error_of(command("microbatch", name, app)) == message


@pytest.mark.parametrize(
    ("text", "app", "message"),
    [
        ("", "app.py", "app.py has no Config; make one at the top level: config = Config(name=..., ...)"),
        (
            f"{IMPORT}one, two = Config(name='one'), Config(name='two')\n",
            "app.py",
            "app.py has several Configs (one, two); say which: app.py:one",
        ),
        (
            f"{IMPORT}config = Config(name='x', batch_processor=len)\n",
            "app.py:conf",
            "app.py:conf: 'conf' must be a Config, but there is none",
        ),
        (
            f"{IMPORT}config = Config(name='x', batch_processor=3)\n",
            "app.py",
            (
                "app.py can't be imported: batch_processor: "
                "must be a function, an object with run(), or an import string, not 3"
            ),
        ),
        (
            f"{IMPORT}config = Config(name='x', batch_processor='nowhere:process')\n",
            "app.py",
            "batch_processor: cannot import it: No module named 'nowhere'",
        ),
        (
            f"{IMPORT}config = Config(name='x')\n",
            "app.py",
            "batcher 'x' has no batch_processor for its workers to run",
        ),
        (
            f"{IMPORT}config = Config(name='x', frequency='soon')\n",
            "app.py",
            (
                "app.py can't be imported: frequency: Input should be a valid integer, "
                "unable to parse string as an integer, not 'soon'"
            ),
        ),
        (
            "import nowhere\n",
            "app.py",
            "app.py can't be imported: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("def f(:\n", "app.py", "app.py can't be imported: SyntaxError: invalid syntax (app.py, line 1)"),
    ],
)
def test_an_unusable_app(command: Command, tmp_path: Path, text: str, app: str, message: str) -> None:
    (tmp_path / "app.py").write_text(text)
    assert error_of(command("microbatch", "run", app)) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recrod"], "No such command 'recrod'; did you mean 'record'? (see 'microbatch --help')"),
        (["stauts"], "No such command 'stauts'; did you mean 'status'?"),
        (["lsit"], "No such command 'lsit'; did you mean 'list'?"),
        (["xyzzy"], "No such command 'xyzzy' (see 'microbatch --help')"),
        (["flush"], "Missing argument 'TARGET' (see 'microbatch flush --help')"),
        (["record", "letters", "nothing.jsonl"], "File 'nothing.jsonl' does not exist"),
        (["record", "letters", "--rate", "0"], "Invalid value for '--rate'"),
        (["status", "my letters"], "name: 'my letters' won't do: use 1 to 100 letters"),
        (["results", "letters", "--handle"], "--handle calls an app's handlers: name the app"),
        (["scheduler", "letters.py", "letters:config"], "two of these apps are of the batcher 'letters'"),
        (["--log-level", "loud", "demo"], "Invalid value for '--log-level'"),
    ],
)
def test_an_invalid_command_line(command: Command, letters: str, arguments: list[str], message: str) -> None:
    assert message in error_of(command("microbatch", *arguments))


def test_an_invalid_log_level(command: Command) -> None:
    process = command("microbatch", "status", "letters", env={"MICROBATCH_LOG_LEVEL": "loud"})
    assert error_of(process).startswith("MICROBATCH_LOG_LEVEL: 'LOUD' is not a log level")


def test_the_dashboard_s_port_is_taken(command: Command, letters: str, make_server: MakeServer) -> None:
    with socket.create_server((LOCALHOST, 0)) as taken:
        port = taken.getsockname()[1]
        url = make_server().url
        line = error_of(command("microbatch", "dashboard", letters, "--port", str(port), url=url))
    assert line.startswith(f"the dashboard can't listen on {LOCALHOST} port {port}: ")


def test_the_command_alone_shows_its_help(command: Command) -> None:
    alone, asked = command("microbatch"), command("microbatch", "--help")
    assert alone.wait() == asked.wait() == 0
    assert alone.stdout == asked.stdout
    assert alone.stderr == []
