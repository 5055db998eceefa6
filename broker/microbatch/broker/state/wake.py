"""The wake list: words that wake the active scheduler before its next tick.

They are hints. If a word gets lost, its work happens later, at the next tick.
"""

from __future__ import annotations

from enum import StrEnum

from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import (
    Command,
    Replies,
    Request,
    Steps,
    command,
    commands,
    transaction,
)
from microbatch.broker.transport.verb import S_co, Verbs, verb


class Wake(StrEnum):
    """A word to the active scheduler."""

    SIZE = "size"
    """A full batch waits."""
    FLUSH = "flush"
    """Cut all that waits now. A flush may have been asked for."""
    MARK = "mark"
    """A flush was asked for that leaves events to their tick."""
    RECONCILE = "reconcile"
    """Reconcile now: something about the scheduler itself, or about what it looks at, has changed."""
    ROOM = "room"
    """There is room for batches again, and the scheduler waits for it."""
    IDLE = "idle"
    """With eager cutting: the first event waits, and may be cut at once."""


_MOST_WORDS = 4 * len(Wake)  # several clients that leave one word at once may leave it twice


class WakeList(Verbs[S_co]):
    """The wake list of one batcher."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys

    @verb
    def tell(self, word: Wake) -> Request[Replies]:
        """Leave a word for the active scheduler."""
        return transaction(*words_of(self._keys, word))

    @verb
    def take_back(self, *words: Wake) -> Request[Replies]:
        """Remove words that have not been read yet."""
        return commands(*(("LREM", self._keys.wake, 0, word) for word in words))

    @verb
    def thin_out(self) -> Steps[int]:
        """Delete all words if there are too many. Returns how many were deleted.

        Each of Microbatch's own words is there once. Each other word would wake the scheduler for nothing.
        """
        words = int((yield from command("LLEN", self._keys.wake)))
        if words <= _MOST_WORDS:
            return 0
        yield from command("UNLINK", self._keys.wake)
        return words


def words_of(keys: Keys, word: Wake) -> tuple[Command, ...]:
    """The commands that leave a word on the list, once."""
    return ("LREM", keys.wake, 0, word), ("RPUSH", keys.wake, word)
