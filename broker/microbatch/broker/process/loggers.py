"""Keeps our loggers enabled when an application configures its logging.

``logging.config.dictConfig`` and ``fileConfig`` disable every existing logger that they don't name, unless
``disable_existing_loggers=False`` is given. Then the deaths of workers would not be logged.
"""

from __future__ import annotations

import logging

_OURS = ("microbatch", "rq")


def keep_loggers() -> None:
    """Enable our loggers and RQ's again. Their levels stay as the application set them."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.disabled and name.partition(".")[0] in _OURS:
            logger.disabled = False
