"""The wake list: words by which the active scheduler is woken before its tick.

They are hints. A word that gets lost makes something happen later, at the next tick.
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
    """What the active scheduler may be told."""

    SIZE = "size"
    """A full batch waits."""
    FLUSH = "flush"
    """Cut all that waits now. A flush may have been asked for."""
    MARK = "mark"
    """A flush was asked for that leaves events to their tick."""
    RECONCILE = "reconcile"
    """Reconcile now: something about the scheduler itself, or about what it looks at, has changed."""
    ROOM = "room"
    """A batch that had a job has ended, where the scheduler waits for that."""


_MOST_WORDS = 4 * len(Wake)  # several who say one word at once may leave it twice


class WakeList(Verbs[S_co]):
    """The wake list of one batcher."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys

    @verb
    def tell(self, word: Wake) -> Request[Replies]:
        """Tell the active scheduler."""
        return transaction(*words_of(self._keys, word))

    @verb
    def take_back(self, *words: Wake) -> Request[Replies]:
        """Take words back that nobody has read."""
        return commands(*(("LREM", self._keys.wake, 0, word) for word in words))

    @verb
    def thin_out(self) -> Steps[int]:
        """Throw the words away if there are too many. Returns how many they were.

        Each of ours is there once. Each of the others would have a batch cut, as small as it may be.
        """
        words = int((yield from command("LLEN", self._keys.wake)))
        if words <= _MOST_WORDS:
            return 0
        yield from command("UNLINK", self._keys.wake)
        return words


def words_of(keys: Keys, word: Wake) -> tuple[Command, ...]:
    """What leaves a word on the list, once."""
    return ("LREM", keys.wake, 0, word), ("RPUSH", keys.wake, word)
