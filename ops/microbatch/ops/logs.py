"""Logging of the commands: to standard error, at one level, set once and for the child processes too."""

from __future__ import annotations

import logging
import os

from microbatch.broker.errors import ConfigError
from microbatch.broker.process.log_format import LEVEL_VARIABLE, log_to_standard_error

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_DEFAULT = "INFO"


def set_up(level: str | None = None) -> None:
    """Log at ``level``, otherwise at what the environment says. May be called again to change it.

    A level given here is put into the environment, where child processes find it.

    Raises:
        ConfigError: the environment's level is none.
    """
    name = (level or os.environ.get(LEVEL_VARIABLE) or _DEFAULT).upper()
    if name not in LEVELS:
        raise ConfigError(f"{LEVEL_VARIABLE}: {name!r} is no log level; use one of {', '.join(LEVELS)}")
    if level:
        os.environ[LEVEL_VARIABLE] = name
    log_to_standard_error()
    logging.getLogger().setLevel(name)


def level_of_children(default: str) -> str:
    """The level for child processes: the one that was asked for, else ``default``."""
    return os.environ.get(LEVEL_VARIABLE) or default
