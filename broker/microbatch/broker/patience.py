"""Patience: how a process waits for a server that does not do its part, and says so once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from math import inf
from typing import TypeVar

from microbatch.broker.errors import InDoubt, MicrobatchError, RefusedForNow, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

PASSING = (Unavailable, InDoubt, RefusedForNow)
"""What a server is waited for: it is away, or in a state that passes."""

_OUTAGE = (Unavailable, InDoubt)
_AWAY, _REFUSED = "away", "refused"
_QUIET_SECONDS = 12.0
"""Longer than two waits between tries, and than two rounds of what is done every five seconds."""
_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0
_INSIST_SECONDS = 90.0


class Patience:
    """The waits of one batcher's process between tries, each twice as long as the one before, up to 5 s.

    A trouble is logged once, and once that it is over. An outage is over with the first success. A refusal
    may concern some commands only, so that others succeed meanwhile: it is over when nothing was refused for
    longer than what is done now and then takes to come round.
    """

    def __init__(self, batcher: str) -> None:
        self._batcher = batcher
        self._seconds = 0.0
        self._told: set[str] = set()
        """The kinds of trouble that were logged and are not over."""
        self._lost_at = 0.0

    def lost(self, error: MicrobatchError) -> float:
        """A try has failed. Returns how long to wait for the next, in seconds."""
        kind = _AWAY if isinstance(error, _OUTAGE) else _REFUSED
        if kind not in self._told:
            until = "it answers" if kind == _AWAY else "it does"
            log.warning("%s: %s; trying again until %s", self._batcher, error.public, until)
            self._told.add(kind)
        self._lost_at = time.monotonic()
        self._seconds = min(max(_FIRST_SECONDS, self._seconds * 2), _LONGEST_SECONDS)
        return self._seconds

    def found(self, *, everything: bool = False) -> None:
        """A try has succeeded. ``everything``: it is all that is tried, so no trouble is left."""
        self._seconds = 0.0
        if not self._told or (
            _REFUSED in self._told and not everything and time.monotonic() < self._lost_at + _QUIET_SECONDS
        ):
            return
        again = "no longer refuses" if _REFUSED in self._told else "answers again"
        log.warning("%s: the server %s", self._batcher, again)
        self._told.clear()


def until_reached(batcher: str, look: Callable[[], object], seconds: float | None) -> None:
    """Look for the server until it answers, for so many seconds at most; None: for as long as it takes.

    Raises what the look does: at once what does not pass, such as a wrong password, and the rest in the end.
    """
    patience, give_up_at = Patience(batcher), time.monotonic() + (inf if seconds is None else seconds)
    while True:
        try:
            look()
        except PASSING as error:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(min(patience.lost(error), max(give_up_at - time.monotonic(), 0)))
        else:
            patience.found(everything=True)
            return


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
            patience.found(everything=True)
            return done
