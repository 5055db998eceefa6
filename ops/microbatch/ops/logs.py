"""Sets up the commands' logging: to standard error, at one level, which child processes inherit."""

from __future__ import annotations

import logging
import os

from microbatch.broker.errors import ConfigError
from microbatch.broker.process.log_format import LEVEL_VARIABLE, log_to_standard_error

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_DEFAULT = "INFO"


def set_up(level: str | None = None) -> None:
    """Log at ``level``, or otherwise at the level in the environment. May be called again to change it.

    A level given here is put into the environment, where child processes find it.

    Raises:
        ConfigError: the level in the environment is not a log level.
    """
    name = (level or os.environ.get(LEVEL_VARIABLE) or _DEFAULT).upper()
    if name not in LEVELS:
        raise ConfigError(f"{LEVEL_VARIABLE}: {name!r} is not a log level; use one of {', '.join(LEVELS)}")
    if level:
        os.environ[LEVEL_VARIABLE] = name
    log_to_standard_error()
    logging.getLogger().setLevel(name)


def level_of_children(default: str) -> str:
    """The level for child processes: the one in the environment, or otherwise ``default``."""
    return os.environ.get(LEVEL_VARIABLE) or default
