"""The counters of one batcher, and how fast they have been growing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields

from microbatch.broker.errors import DecodeError
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Replies, Request, Steps, Value, command, commands, pairs
from microbatch.broker.transport.verb import S_co, Verbs, verb
from microbatch.broker.wire.text import is_number, printable


@dataclass(frozen=True, slots=True)
class Counters:
    """What has happened since the batcher's first event."""

    cut_batches: int = 0
    cut_events: int = 0
    done_batches: int = 0
    done_events: int = 0
    dead_batches: int = 0
    dead_events: int = 0
    """All that ever died; `replayed`, `purged` and `revived` ones are dead no more."""
    divided_batches: int = 0
    replayed_batches: int = 0
    replayed_events: int = 0
    purged_batches: int = 0
    purged_events: int = 0
    revived_batches: int = 0
    revived_events: int = 0

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> Counters:
        """The counters in a stats hash. Raises DecodeError if one is not a number."""
        return cls(**{field.name: _number(fields, field.name) for field in dataclass_fields(cls)})

    @property
    def events_gone(self) -> int:
        """Events that were cut and are neither in flight nor dead any more."""
        return self.done_events + self.replayed_events + self.purged_events

    @property
    def dead_events_now(self) -> int:
        """Events that are dead and have not been dealt with."""
        return self.dead_events - self.replayed_events - self.purged_events - self.revived_events

    @property
    def dead_batches_now(self) -> int:
        """Batches that are dead and have not been dealt with."""
        return self.dead_batches - self.replayed_batches - self.purged_batches - self.revived_batches

    @property
    def batches_gone(self) -> int:
        """Batches that were cut and are neither in flight nor dead any more."""
        return self.done_batches + self.divided_batches + self.replayed_batches + self.purged_batches

    def recorded(self, waiting: int) -> int:
        """How many events were ever recorded, when ``waiting`` of them wait; a replay records none anew."""
        return self.cut_events + waiting - self.replayed_events


@dataclass(frozen=True, slots=True)
class Rates:
    """Events a second, over the last seconds for which there are marks."""

    recorded: float = 0.0
    done: float = 0.0


class Stats(Verbs[S_co]):
    """The stats hash: the counters, which the scripts count up, and two marks to tell rates by."""

    def __init__(self, server: S_co, keys: Keys) -> None:
        super().__init__(server)
        self._keys = keys

    @verb
    def counters(self) -> Request[Counters]:
        """The counters, as they stand now."""
        return command("HGETALL", self._keys.stats).then(lambda reply: Counters.of(pairs(reply)))

    @verb
    def mark(self, now_ms: int) -> Steps[None]:
        """Note where the counters stand, and keep the mark before; active schedulers do so now and then."""
        fields, waiting = yield from self._fields_and_waiting()
        counters = Counters.of(fields)
        previous = {
            name.replace("mark", "past", 1): value
            for name, value in _text(fields).items()
            if name.startswith("mark")
        }
        current: dict[str, Value] = {
            "mark_at": now_ms,
            "mark_recorded": counters.recorded(waiting),
            "mark_done": counters.done_events,
        }
        values = [item for pair in (*previous.items(), *current.items()) for item in pair]
        yield from command("HSET", self._keys.stats, *values)

    @verb
    def rates(self, now_ms: int) -> Steps[Rates]:
        """Events a second since the mark before the last."""
        fields, waiting = yield from self._fields_and_waiting()
        counters = Counters.of(fields)
        which = "past" if b"past_at" in fields else "mark"
        seconds = (now_ms - _number(fields, f"{which}_at", now_ms)) / 1000
        if seconds <= 0:
            return Rates()
        recorded = counters.recorded(waiting) - _number(fields, f"{which}_recorded")
        done = counters.done_events - _number(fields, f"{which}_done")
        return Rates(recorded / seconds, done / seconds)

    def _fields_and_waiting(self) -> Request[tuple[dict[bytes, bytes], int]]:
        asked = ("HGETALL", self._keys.stats), ("LLEN", self._keys.events)
        return commands(*asked).then(_fields_and_waiting)


def _fields_and_waiting(replies: Replies) -> tuple[dict[bytes, bytes], int]:
    fields, waiting = replies
    return pairs(fields), int(waiting)


def _number(fields: Mapping[bytes, bytes], name: str, otherwise: int = 0) -> int:
    """Raises DecodeError if it is there and is not a number."""
    value = fields.get(name.encode())
    if value is None:
        return otherwise
    if not is_number(value):
        raise DecodeError(f"the counter {name} is no number; the active scheduler quarantines it")
    return int(value)


def _text(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    return {printable(name): printable(value) for name, value in fields.items()}
