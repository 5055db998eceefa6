"""The apps that the acceptance tests give to commands, in the current folder and as a user writes them."""

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
    """An app that adds up letters, in batches of three or every 200 ms. Its program gets the letters."""
    (tmp_path / "letters.py").write_text(LETTERS)
    return "letters.py"


@pytest.fixture
def rare(tmp_path: Path) -> str:
    """The same app, with a size and a tick at which nothing is cut before a test is over."""
    (tmp_path / "rare.py").write_text(LETTERS.replace("frequency=200, max_size=3", "frequency=3_600_000"))
    return "rare.py"
