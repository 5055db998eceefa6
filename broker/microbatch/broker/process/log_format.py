"""The format of log lines: a time with its zone, and plain text."""

from __future__ import annotations

import logging
from datetime import datetime

from microbatch.broker.process.plain import plain

LEVEL_VARIABLE = "MICROBATCH_LOG_LEVEL"
"""The environment variable that says how much is logged."""


class LogFormatter(logging.Formatter):
    """Formats a record as one line, or as several if it has a traceback."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802
        moment = datetime.fromtimestamp(record.created).astimezone()
        return moment.isoformat(sep=" ", timespec="milliseconds")

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def log_to_standard_error() -> None:
    """Log to standard error, unless the root logger already has a handler."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter())
    logging.basicConfig(handlers=[handler])
