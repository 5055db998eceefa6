"""The settings have types: an editor completes them, and a type checker finds a wrong one before it runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from microbatch import producer
from microbatch.broker import errors
from microbatch.broker.app.config import Config
from microbatch.broker.app.settings import Settings
from tests.processes import clean_environment

ROOT = Path(__file__).parents[2]

# Each wrong line says so.
PROGRAM = """\
import sqlite3
from microbatch.producer import BatchInfo, Config


class Store:
    def run(self, batch: list[int]) -> int:
        return len(batch)


def plain(batch: list[str]) -> int:
    return len(batch)


def informed(batch: list[str], info: BatchInfo) -> None:
    pass


async def later(batch: list[str]) -> None:
    pass


def none() -> None:
    pass


def three(batch: list[str], info: BatchInfo, more: int) -> None:
    pass


Config()
Config(name="a", batch_processor=plain, max_size=10, retry_for="1d", keep_dead=None)
Config(name="a", batch_processor=informed, result_handler=print, retry_for=10, frequency=20)
Config(name="a", batch_processor=later, retry_on=(OSError, sqlite3.OperationalError), results="discard")
Config(name="a", batch_processor=Store(), failure_handler=print, give_up_on=ValueError)
Config(name="a", batch_processor="app:process", durability="replicated", lease_ttl=2.5)
Config(max_size="ten")  # wrong
Config(maxsize=10)  # wrong
Config(results="kept")  # wrong
Config(batch_processor=none)  # wrong
Config(batch_processor=three)  # wrong
Config(name=1)  # wrong
"""


def test_all_settings_have_types() -> None:
    assert get_type_hints(Settings).keys() == Config.model_fields.keys()


@pytest.mark.early
@pytest.mark.timeout(120)
def test_a_type_checker_knows_them(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    mypy = [sys.executable, "-m", "mypy", "--no-error-summary", str(tmp_path / "app.py")]
    checked = subprocess.run(
        mypy, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=False
    )
    told = {int(line) for line in re.findall(r"app\.py:(\d+): error:", checked.stdout)}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert told == wrong, checked.stdout + checked.stderr


def test_all_that_a_caller_may_get_is_in_one_module() -> None:
    raised = {name for name, found in vars(errors).items() if isinstance(found, type)}
    internal = {
        "EventError",
        "LeaseLost",
        "LeaseChanged",
    }  # the base class of two others, and what only a scheduler raises
    assert raised - internal <= set(producer.__all__)
