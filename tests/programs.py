"""Programs that some tests need and a machine may lack.

A test that needs a missing program is skipped with the reason. It fails instead if ``MICROBATCH_REQUIRE``
(names, separated by commas) lists the program. So nothing is skipped unseen on machines that should have all
programs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NoReturn

import pytest

REQUIRE = "MICROBATCH_REQUIRE"

# The name that a test uses -> the commands that provide it, best first.
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "redis-server": (("redis-server",),),
    "openssl": (("openssl",),),
    "faketime": (("faketime",),),
    "chromium": (("chromium",), ("chromium-browser",), ("google-chrome",)),
    "docker-compose": (("docker", "compose"), ("docker-compose",)),
    "postgresql": (),  # not on Debian's path: see tests/outage/postgres.py
}


def required() -> set[str]:
    """The programs that must be installed.

    Raises ValueError for an unknown name, because a misspelt name would otherwise require nothing.
    """
    names = {name.strip() for name in os.environ.get(REQUIRE, "").split(",") if name.strip()}
    if unknown := names - COMMANDS.keys():
        known = ", ".join(sorted(COMMANDS))
        raise ValueError(f"{REQUIRE}: {', '.join(sorted(unknown))} unknown; known are {known}")
    return names


def missing(name: str, reason: str) -> NoReturn:
    """Skip the test, which cannot run without ``name``, or fail it if ``name`` is required."""
    if name in required():
        pytest.fail(f"{reason} ({REQUIRE} names {name})", pytrace=False)
    pytest.skip(reason)


def need(name: str) -> list[str]:
    """The command for ``name`` as the beginning of an argument list. Without it, skip or fail the test."""
    for command in COMMANDS[name]:
        if _works(command):
            return list(command)
    missing(name, f"{name} is not installed")


def _works(command: tuple[str, ...]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    if len(command) == 1:
        return True
    # A subcommand may be a separate plugin, as docker's compose is.
    return subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0
