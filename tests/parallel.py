"""Tests in parallel (pytest-xdist, ``make test``), and the few that need the machine alone.

How to write a test that runs beside others:

- Take servers, ports and folders from the fixtures. Each worker of pytest-xdist has its own shared servers.
- Wait for a condition with ``wait_until``. Other tests take processor time, so set generous deadlines.
- Mark a test ``@pytest.mark.alone`` if it keeps the machine busy, or asserts on a time that the load of
  another test would change. Nothing else runs at the same time, so each such test makes the whole run longer
  by its own duration. These tests run last.
- Mark a test ``@pytest.mark.early`` if it takes half a minute beside others. It starts first, so that the
  run does not end with a wait for it.

Without pytest-xdist, the markers change only the order. Tests in one file may run in any order.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import IO

import pytest

ALONE = "alone"
EARLY = "early"
COMPUTING = "unit"  # the folder of tests that spend more time computing than waiting

Turn = Generator[None, object, object]


def pytest_configure(config: pytest.Config) -> None:
    """The hook of the same name in ``tests/conftest.py`` calls this function."""
    config.addinivalue_line("markers", f"{ALONE}: no other test runs meanwhile; see tests/parallel.py")
    config.addinivalue_line("markers", f"{EARLY}: it takes long, and starts first; see tests/parallel.py")
    config.addinivalue_line("markers", "xdist_group(name): of pytest-xdist, which may be switched off")
    config.pluginmanager.register(Order())
    if hasattr(config, "workerinput"):  # this process is a worker of pytest-xdist
        # The folder of each worker is inside the folder of the run, which all workers share.
        config.pluginmanager.register(Turns(Path(config.getoption("basetemp")).parent))


class Order:
    """Puts the long tests first, and those that need the machine alone last, on one worker.

    Unit tests compute, and the other tests mostly wait: side by side they leave no core idle. More unit tests
    at a time than cores would slow each other down, so each core has one worker that runs its share of them.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: (is_alone(item), item.get_closest_marker(EARLY) is None))
        share = cycle(range(os.cpu_count() or 1))
        shares: dict[Path, int] = {}
        for item in items:
            if is_alone(item):
                item.add_marker(pytest.mark.xdist_group(ALONE))
            elif item.path.parent.name == COMPUTING:
                if item.path not in shares:
                    shares[item.path] = next(share)
                item.add_marker(pytest.mark.xdist_group(f"{COMPUTING} {shares[item.path]}"))


class Turns:
    """Lets the workers run tests at the same time, except tests that need the machine alone.

    During a test, each worker holds a shared lock on ``running``. A test that needs to be alone holds it
    exclusively. While it waits for that lock it also holds ``entrance``, so that no worker starts another
    test.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._entrance = (folder / "entrance.lock").open("w")
        self._running = (folder / "running.lock").open("w")
        self._alone = False

    # Outermost hook: a test's timeout must not include the time that it waits for its turn.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Turn:
        if not self._alone:
            self._begin(alone=is_alone(item))
        try:
            return (yield)
        finally:
            # If the next test also needs to be alone, keep the lock: other tests would start only to be
            # waited for.
            self._alone = self._alone and nextitem is not None and is_alone(nextitem)
            if not self._alone:
                fcntl.flock(self._running, fcntl.LOCK_UN)

    def pytest_unconfigure(self) -> None:
        self._entrance.close()
        self._running.close()

    def _begin(self, *, alone: bool) -> None:
        with _locked(self._entrance):
            fcntl.flock(self._running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        self._alone = alone


def is_alone(item: pytest.Item) -> bool:
    """Whether the test is marked ``alone``."""
    return item.get_closest_marker(ALONE) is not None


@contextmanager
def _locked(file: IO[str]) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
