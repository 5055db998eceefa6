"""compose.yaml, as far as it can be checked without starting it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests import programs

ROOT = Path(__file__).parents[2]


def test_the_stack_with_and_without_the_example_is_well_formed() -> None:
    command = programs.need("docker-compose")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MICROBATCH_")}
    for profile in ([], ["--profile", "example"]):
        done = subprocess.run(
            [*command, "--file", str(ROOT / "compose.yaml"), *profile, "config", "--quiet"],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
