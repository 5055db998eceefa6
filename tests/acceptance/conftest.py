"""What the commands are given in the acceptance tests: apps, as a user writes them, in the current folder."""

from __future__ import annotations

from pathlib import Path

import pytest

LETTERS = """\
import sys
from microbatch.producer import Config, start

VALUES = {"a": 1, "b": 2, "d": 4}

def total(batch: list[str]) -> int:
    return sum(VALUES[letter] for letter in batch)

def show(result: int) -> None:
    print("batch total", result, flush=True)

config = Config(
    name="letters", batch_processor=total, result_handler=show, frequency=200, max_size=3, max_retries=0
)

if __name__ == "__main__":
    with start(config) as mb:
        mb.record_events(list(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read().strip()))
        mb.stop()
        mb.wait_for_results()
"""


@pytest.fixture
def letters(tmp_path: Path) -> str:
    """An app that adds letters up, in batches of three or every 200 ms; its program is given them."""
    (tmp_path / "letters.py").write_text(LETTERS)
    return "letters.py"


@pytest.fixture
def rare(tmp_path: Path) -> str:
    """The same, but without a size or a tick that would cut anything before a test is over."""
    (tmp_path / "rare.py").write_text(LETTERS.replace("frequency=200, max_size=3", "frequency=3_600_000"))
    return "rare.py"
