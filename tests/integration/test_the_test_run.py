"""A run of the tests: in the background, and on several workers of pytest-xdist."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Process
from tests.signals import children_have_default_signals, handlers_restored

ROOT = Path(__file__).parents[2]
CTRL_C = "tests/acceptance/test_record.py::test_ctrl_c_tells_how_many"

# The signals that a shell ignores for a script's background jobs, and nohup for a command.
IN_THE_BACKGROUND = ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh"]

CONFTEST = "from tests.parallel import pytest_configure\n"

ALONE = ("test_alone[1]", "test_alone[2]")

# Two tests that need each other, one that the next worker runs after them, and some that need to be alone.
TESTS = """\
import time
from pathlib import Path

import pytest

from tests.waiting import wait_until

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def noted(request):
    with (FOLDER / "notes").open("a", buffering=1) as notes:
        notes.write(f"{request.node.name} begins\\n")
        yield
        notes.write(f"{request.node.name} ends\\n")


@pytest.mark.alone
@pytest.mark.parametrize("number", [1, 2])
def test_alone(number):
    time.sleep(0.05)  # for the others to come between, if they may


@pytest.mark.parametrize("name", ["this", "that"])
def test_pair(name):
    (FOLDER / name).touch()
    wait_until(lambda: (FOLDER / "this").exists() and (FOLDER / "that").exists())


def test_slow():
    time.sleep(0.5)  # for those that are alone to come meanwhile, if they may
"""


def run_pytest(*arguments: str | Path, before: list[str] | None = None, cwd: Path = ROOT) -> Process:
    """A separate run of pytest beside this one."""
    words = [*(before or []), sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)]
    return Process(words, cwd=cwd, env={"PYTHONPATH": str(ROOT)}, fresh=True)


def test_in_the_background_the_tests_start_processes_that_ctrl_c_reaches(tmp_path: Path) -> None:
    with run_pytest(CTRL_C, "--basetemp", tmp_path / "inner", before=IN_THE_BACKGROUND) as run:
        code = run.wait(60)
    assert code == 0, run.output
    assert "1 passed" in run.stdout[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_is_ignored_here_is_not_in_children(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with children_have_default_signals():
            child = subprocess.Popen(["sleep", "600"])
            signal.raise_signal(number)  # this process still ignores it
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    child.send_signal(number)
    assert child.wait(10) == -number


def test_a_handler_that_a_test_leaves_is_removed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with handlers_restored():
        signal.signal(signal.SIGTERM, lambda *_: None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_test_that_needs_the_machine_alone_has_it_alone(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_turns.py").write_text(TESTS)
    parallel = ["-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder"]
    with run_pytest(*parallel, "-c", "/dev/null", "--rootdir", tmp_path, cwd=tmp_path) as run:
        assert run.wait(60) == 0, run.output
    notes = (tmp_path / "notes").read_text().splitlines()
    assert {note.partition(" ")[0] for note in notes[:2]} == {"test_pair[this]", "test_pair[that]"}
    others = [note for note in notes if not note.startswith("test_pair")]
    for name in ("test_slow", *ALONE):  # nothing else runs between the begin and the end of each
        begins = others.index(f"{name} begins")
        assert others[begins + 1] == f"{name} ends", notes
