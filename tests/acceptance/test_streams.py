"""Standard streams that are closed or full, and folders that do not exist: one line, and exit code 2."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from microbatch.producer import Config, start
from tests.conftest import Command
from tests.preloaded import spawn
from tests.processes import clean_environment, script
from tests.servers import RealServer

NO_SPACE = "microbatch: error: standard output: No space left on device\n"
CLOSED = "microbatch: error: standard output is closed; send it to a file or to /dev/null\n"


BUFFERED = {"PYTHONUNBUFFERED": ""}


def run(line: str, url: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of sh. A plain command with redirections runs without a shell."""
    if "&" in line:
        return shell(line, url, **env)
    words, files = shlex.split(line), {"<": "/dev/null", ">": "stdout", "2>": "stderr"}
    while words[-2] in files:
        files[words[-2]] = words[-1]
        del words[-2:]
    paths = [Path(files[name]) for name in ("<", ">", "2>")]
    with paths[0].open() as stdin, paths[1].open("w") as stdout, paths[2].open("w") as stderr:
        streams = [file.fileno() for file in (stdin, stdout, stderr)]
        code = spawn([script(words[0]), *words[1:]], streams, cwd=None, env=environment(url, env)).wait(60)
    texts = [path.read_text() if path.is_file() else "" for path in paths[1:]]
    return subprocess.CompletedProcess(words, code, *texts)


def shell(line: str, url: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a line of sh in which ``microbatch`` is the command."""
    return subprocess.run(
        ["sh", "-c", line.replace("microbatch", shlex.quote(script("microbatch")), 1)],
        env=environment(url, env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def environment(url: str | None, env: Mapping[str, str]) -> dict[str, str]:
    """A user's environment, with a server if there is one."""
    return clean_environment({**({"MICROBATCH_REDIS_URL": url} if url else {}), **env})


LINES = [
    ("microbatch status letters >&-", 2, CLOSED),
    ("microbatch status letters > /dev/full", 2, NO_SPACE),
    ("microbatch status letters --json > /dev/full", 2, NO_SPACE),
    ("microbatch status letters --watch > /dev/full", 2, NO_SPACE),
    ("microbatch --help > /dev/full", 2, NO_SPACE),
    ("microbatch --version > /dev/full", 2, NO_SPACE),
    ("microbatch --version >&-", 2, CLOSED),
    ("microbatch dead list letters > /dev/full", 2, NO_SPACE),
    ("microbatch verify letters > /dev/full", 2, NO_SPACE),
    (
        "microbatch record letters <&-",
        2,
        "microbatch: error: standard input is closed; name a file to read\n",
    ),
    ("microbatch record letters >&- < events", 0, "recorded 2 events\n"),
    ("microbatch record letters > /dev/full < events", 0, "recorded 2 events\n"),
    ("microbatch record letters 2>&- < events", 0, ""),
    ("microbatch record letters 2> /dev/full < events", 2, ""),
    ("microbatch status letters 2>&-", 0, ""),
    ("microbatch status nothing.py 2>&-", 2, ""),
    ("microbatch status nothing.py 2> /dev/full", 2, ""),
    ("microbatch status nothing.py <&- >&- 2>&-", 2, ""),
]


@pytest.mark.parametrize(
    ("env", "line", "code", "stderr"),
    # Unbuffered output fails at another point.
    [(BUFFERED, *row) for row in LINES] + [({}, *row) for row in LINES if "> /dev/full" in row[0]],
)
def test_streams_that_are_closed_or_full(
    tmp_path: Path, valkey_server: RealServer, *, env: dict[str, str], line: str, code: int, stderr: str
) -> None:
    (tmp_path / "events").write_text("1\n2\n")
    valkey_server.admin.hset("mb:{letters}:config", "frequency", 1000)  # makes the name known
    done = run(line, valkey_server.url, **env)
    assert (done.returncode, done.stderr) == (code, stderr)


def test_a_result_that_can_not_be_printed_is_kept(
    command: Command, letters: str, valkey_server: RealServer
) -> None:
    command("microbatch", "scheduler", letters, url=valkey_server.url)
    command("microbatch", "worker", letters, url=valkey_server.url)
    config = Config(name="letters", redis_url=valkey_server.url)
    with start(config) as batcher:
        batcher.record_event("a")
    done = run("microbatch results letters > /dev/full", valkey_server.url)
    assert (done.returncode, done.stderr) == (2, NO_SPACE)
    assert '"result":1' in run("microbatch results letters", valkey_server.url).stdout


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_workers_run_although_streams_are_closed(
    tmp_path: Path, letters: str, valkey_server: RealServer, closing: str
) -> None:
    """No file or socket of the workers gets the descriptor of a closed stream."""
    path = tmp_path / letters
    text = path.read_text().replace("    return sum", "    print('at it')\n    return sum")
    path.write_text(text)
    line = (
        f"microbatch worker letters.py {closing} & pid=$!\n"
        f"{script('microbatch')} scheduler letters.py {closing} & other=$!\n"
        f"echo '\"a\"' | {script('microbatch')} record letters --create\n"
        f"{script('microbatch')} results letters\n"
        "kill $pid $other; wait $pid; wait $other\n"
    )
    done = shell(line, valkey_server.url)
    assert '"result":1' in done.stdout, done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", ["status letters", "worker letters.py", "up letters:config", "demo"])
def test_a_folder_that_was_deleted(valkey_server: RealServer, arguments: str) -> None:
    done = shell(f"mkdir gone && cd gone && rmdir ../gone && microbatch {arguments}", valkey_server.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "microbatch: error: the current folder can't be used (No such file or directory); go to another one\n"
    )


def in_a_deleted_folder(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f"mkdir gone; cd gone; rmdir ../gone; {sys.executable} -c {shlex.quote(source)}"],
        env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_program_in_a_folder_that_was_deleted_has_its_settings() -> None:
    done = in_a_deleted_folder("from microbatch.producer import Config; print(Config(name='letters').name)")
    if "pydantic_core" in done.stderr and in_a_deleted_folder("import pydantic_core").returncode:
        pytest.skip("this Python can't import pydantic there")
    assert (done.returncode, done.stdout, done.stderr) == (0, "letters\n", "")


@pytest.mark.parametrize("arguments", ["up letters.py", "demo", "run letters.py"])
def test_no_folder_for_temporary_files(letters: str, arguments: str) -> None:
    source = (
        "import sys, tempfile\n"
        "tempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']\n"
        f"sys.argv = ['microbatch', *{arguments.split()!r}]\n"
        "from microbatch.ops.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "microbatch: error: No usable temporary directory found in ['/proc/nowhere']; "
        "set TMPDIR to a folder that can be written\n"
    )


@pytest.mark.parametrize("arguments", ["status letters", "worker letters.py", "run letters.py", "demo"])
@pytest.mark.parametrize(
    ("content", "told"),
    [(b"MICROBATCH_NAME=caf\xe9\n", "is not UTF-8: save it as UTF-8"), (None, "can't be read: ")],
)
def test_a_file_of_settings_that_can_not_be_read(
    tmp_path: Path, letters: str, arguments: str, content: bytes | None, told: str
) -> None:
    if content is None:
        (tmp_path / ".env").symlink_to("/proc/self/mem")
    else:
        (tmp_path / ".env").write_bytes(content)
    # The demo reads its settings during its import, which a forked program has already done.
    done = (shell if arguments == "demo" else run)(f"microbatch {arguments}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path}/.env {told}" in done.stderr
    assert done.stderr.startswith("microbatch: error: ")
    assert done.stderr.count("\n") == 1
