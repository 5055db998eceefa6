"""Flushes: how many were asked for, and up to which of them everything is cut.

A flush has a number, not a position among all events. The scheduler that learns of it notes how many events
wait at that moment, and notes the flush as done when it has cut that many. So a waiter does not need to know
in which order events are cut, or from which lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microbatch.broker.errors import DecodeError
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.wake import Wake, words_of
from microbatch.broker.transport.request import Request, transaction
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.text import is_number


@dataclass(frozen=True, slots=True)
class FlushState:
    """Which flushes of a batcher were asked for, and which are done."""

    asked: int
    """The number of the last flush that was asked for."""
    done: int
    """The number of the last flush that is done: all events recorded before it are cut."""
    waiting: int
    """How many events waited at the same moment."""


class Flushes(Verbs[S_co]):
    """The flushes of one batcher."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys

    @verb
    def ask(self, word: Wake) -> Request[int]:
        """Ask for a flush of everything that was recorded before this call. Returns its number.

        ``word`` wakes the scheduler. With FLUSH it cuts at once, with MARK the events wait for their
        tick. It is safe to ask again after InDoubt, because the second flush includes the first.
        """
        ask = transaction(("HINCRBY", self._keys.flushes, "asked", 1), *words_of(self._keys, word))
        return ask.then(lambda replies: int(replies[0]))

    @verb
    def state(self) -> Request[FlushState]:
        """The state of the flushes. Raises DecodeError if a number in it is not a number."""
        look = transaction(("HMGET", self._keys.flushes, "asked", "done"), ("LLEN", self._keys.events))
        return look.then(lambda replies: flush_state(*replies))


def flush_state(numbers: Sequence[bytes | None], waiting: int) -> FlushState:
    """The state, from the replies of the server. Raises DecodeError if a number in it is not a number."""
    asked, done = map(_number, numbers)
    return FlushState(asked, done, int(waiting))


def _number(raw: bytes | None) -> int:
    if raw is None:
        return 0
    if not is_number(raw):
        raise DecodeError("the number of a flush is not a number; the active scheduler quarantines it")
    return int(raw)
