"""Our loggers stay on when an application sets up its logging.

``logging.config.dictConfig`` and ``fileConfig`` turn off every logger that exists and that they don't name,
unless they are told ``disable_existing_loggers=False``. Deaths of workers would go unsaid.
"""

from __future__ import annotations

import logging

_OURS = ("microbatch", "rq")


def keep_loggers() -> None:
    """Turn on our loggers and RQ's again. Their levels stay as the application set them."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.disabled and name.partition(".")[0] in _OURS:
            logger.disabled = False
