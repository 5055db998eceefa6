"""Patience: how a process waits for a server that has gone away. It says so once, and when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from microbatch.broker.errors import InDoubt, MicrobatchError, RefusedForNow, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

PASSING = (Unavailable, InDoubt, RefusedForNow)
"""What a server is waited for: it is away, or in a state that passes."""

_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0
_INSIST_SECONDS = 90.0


class Patience:
    """The waits of one batcher's process between tries, each twice as long as the one before, up to 5 s."""

    def __init__(self, batcher: str) -> None:
        self._batcher = batcher
        self._seconds = 0.0

    def lost(self, error: MicrobatchError) -> float:
        """A try has failed. Returns how long to wait for the next, in seconds."""
        if not self._seconds:
            log.warning("%s: %s; trying again until it answers", self._batcher, error)
        self._seconds = min(max(_FIRST_SECONDS, self._seconds * 2), _LONGEST_SECONDS)
        return self._seconds

    def found(self) -> None:
        """A try has succeeded."""
        if self._seconds:
            log.warning("%s: the server answers again", self._batcher)
            self._seconds = 0.0


def insist(batcher: str, change: Callable[[], T]) -> T:
    """Make a change that is guarded at the server, and so may be asked for again, until it answers.

    Raises ServerError if it refuses for good, or has done nothing for 90 seconds.
    """
    patience, give_up_at = Patience(batcher), time.monotonic() + _INSIST_SECONDS
    while True:
        try:
            done = change()
        except PASSING as error:
            seconds = patience.lost(error)
            if time.monotonic() + seconds > give_up_at:
                raise
            time.sleep(seconds)
        else:
            patience.found()
            return done
