"""The failure log: one line a minute for each kind of failure, however many there are."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

_EVERY_SECONDS = 60.0


@dataclass
class _Kind:
    quiet_until: float = 0.0
    left_out: int = 0


class FailureLog:
    """Logs failures of one process. The first of a kind is logged, then at most one a minute, with a count.

    A kind is one of few texts, such as an error's name. It never contains anything from an event.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[tuple[int, str], _Kind] = {}

    def note(self, level: int, kind: str, line: str) -> None:
        """Log a failure, or count it if one of this kind was logged within the last minute."""
        state, now = self._kinds.setdefault((level, kind), _Kind()), time.monotonic()
        if now < state.quiet_until:
            state.left_out += 1
            return
        more = f" (and {state.left_out:,} more like it since the last such line)" if state.left_out else ""
        self._log.log(level, "%s%s", line, more)
        state.quiet_until, state.left_out = now + _EVERY_SECONDS, 0
