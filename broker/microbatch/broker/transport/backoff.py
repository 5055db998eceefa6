"""Backoff: how a process waits for a server that is away, and logs the trouble once."""

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
"""The errors after which a process waits for the server: it is away, or in a temporary state."""

_OUTAGE = (Unavailable, InDoubt)
_AWAY, _REFUSED = "away", "refused"
_QUIET_SECONDS = 12.0
"""Longer than two waits between tries, and than two rounds of the work that is done every five seconds."""
_FIRST_SECONDS = 0.1
_LONGEST_SECONDS = 5.0
_RETRY_SECONDS = 90.0


class Backoff:
    """The waits of one batcher's process between tries, each twice as long as the one before, up to 5 s.

    Trouble is logged once when it begins and once when it is over. An outage is over with the first success.
    A refusal may concern only some commands, while others succeed. It is over when nothing was refused for 12
    seconds, which is longer than the interval of periodic work.
    """

    def __init__(self, batcher: str) -> None:
        self._batcher = batcher
        self._seconds = 0.0
        self._told: set[str] = set()
        """The kinds of trouble that were logged and are not over yet."""
        self._lost_at = 0.0

    def failed(self, error: MicrobatchError) -> float:
        """Note that a try has failed. Returns how long to wait before the next one, in seconds."""
        kind = _AWAY if isinstance(error, _OUTAGE) else _REFUSED
        if kind not in self._told:
            until = "it answers" if kind == _AWAY else "it does"
            log.warning("%s: %s; trying again until %s", self._batcher, error.public, until)
            self._told.add(kind)
        self._lost_at = time.monotonic()
        self._seconds = min(max(_FIRST_SECONDS, self._seconds * 2), _LONGEST_SECONDS)
        return self._seconds

    def succeeded(self, *, everything: bool = False) -> None:
        """Note that a try has succeeded. With ``everything``, nothing else is tried: no trouble is left."""
        self._seconds = 0.0
        if not self._told or (
            _REFUSED in self._told and not everything and time.monotonic() < self._lost_at + _QUIET_SECONDS
        ):
            return
        again = "no longer refuses" if _REFUSED in self._told else "answers again"
        log.warning("%s: the server %s", self._batcher, again)
        self._told.clear()


class Tries:
    """The tries of one request until the server answers, for ``seconds``; None: without limit."""

    def __init__(self, batcher: str, seconds: float | None) -> None:
        self._backoff = Backoff(batcher)
        self._give_up_at = time.monotonic() + (inf if seconds is None else seconds)

    def failed(self, error: MicrobatchError) -> float:
        """Note a try that failed. Returns how long to wait; raises the error at the end."""
        left = self._give_up_at - time.monotonic()
        if left <= 0:
            raise error
        return min(self._backoff.failed(error), left)

    def succeeded(self) -> None:
        """Note that the server has answered."""
        self._backoff.succeeded(everything=True)


def retry_until_answered(batcher: str, change: Callable[[], T], seconds: float | None = _RETRY_SECONDS) -> T:
    """Repeat a request until the server answers. Returns its answer.

    ``change`` must be safe to repeat: it only reads, or the server guards its change. It is repeated for
    ``seconds``, or without limit if that is None. Raises ServerError after that time; at once if the server
    refuses for good, for example a wrong password.
    """
    tries = Tries(batcher, seconds)
    while True:
        try:
            done = change()
        except PASSING as error:
            time.sleep(tries.failed(error))
        else:
            tries.succeeded()
            return done
