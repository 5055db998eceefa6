"""The stats of one batcher: its counters, and how fast they grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from microbatch.broker.state.account import Account
from microbatch.broker.state.counters import Counters, number_in
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Replies, Request, Steps, Value, command, commands, pairs
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.text import printable


@dataclass(frozen=True, slots=True)
class Rates:
    """Events a second, measured since an earlier mark."""

    recorded: float = 0.0
    done: float = 0.0


class Stats(Verbs[S_co]):
    """The stats hash: the counters, and two marks from which rates are computed."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys

    @verb
    def counters(self) -> Request[Counters]:
        """The current counters."""
        return command("HGETALL", self._keys.stats).then(lambda reply: Counters.of(pairs(reply)))

    @verb
    def mark(self, now_ms: int) -> Steps[None]:
        """Note the current counters as a mark, and keep the previous mark."""
        fields, waiting = yield from self._fields_and_waiting()
        counters = Counters.of(fields)
        previous = {
            name.replace("mark", "past", 1): value
            for name, value in _text(fields).items()
            if name.startswith("mark")
        }
        current: dict[str, Value] = {
            "mark_at": now_ms,
            "mark_recorded": Account.of(counters, waiting).recorded,
            "mark_done": counters.done_events,
        }
        values = [item for pair in (*previous.items(), *current.items()) for item in pair]
        yield from command("HSET", self._keys.stats, *values)

    @verb
    def rates(self, now_ms: int) -> Steps[Rates]:
        """Events a second since the last mark but one, or since the last if there is only one."""
        fields, waiting = yield from self._fields_and_waiting()
        counters = Counters.of(fields)
        which = "past" if b"past_at" in fields else "mark"
        seconds = (now_ms - number_in(fields, f"{which}_at", now_ms)) / 1000
        if seconds <= 0:
            return Rates()
        recorded = Account.of(counters, waiting).recorded - number_in(fields, f"{which}_recorded")
        done = counters.done_events - number_in(fields, f"{which}_done")
        return Rates(recorded / seconds, done / seconds)

    def _fields_and_waiting(self) -> Request[tuple[dict[bytes, bytes], int]]:
        asked = ("HGETALL", self._keys.stats), ("LLEN", self._keys.events)
        return commands(*asked).then(_fields_and_waiting)


def _fields_and_waiting(replies: Replies) -> tuple[dict[bytes, bytes], int]:
    fields, waiting = replies
    return pairs(fields), int(waiting)


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {printable(name): printable(value) for name, value in fields.items()}
