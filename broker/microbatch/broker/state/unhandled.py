"""The outcomes that wait on the results stream: how many, for how long, and whether there is a consumer."""

from __future__ import annotations

from dataclasses import dataclass

from microbatch.broker.policy.timing import Timing
from microbatch.broker.state.keys import Keys
from microbatch.broker.state.results import HANDED_BACK, consumers_of, is_hint, unless_gone
from microbatch.broker.transport.request import Request, Steps, command, pairs
from microbatch.broker.transport.verb import S_co, Verbs, verb

_HINTS_AT_MOST = 10
_HOUR_MS = 3_600_000
_UNSEEN_MS = 60_000  # a consumer that waits shows itself every few seconds


@dataclass(frozen=True, slots=True)
class Neglect:
    """Results and failures that wait for a handler while no consumer is seen."""

    count: int
    oldest_age_ms: int | None
    """None if the entries may not be read."""
    unseen_ms: int | None
    """For how long no consumer has shown itself; None if there never was one, or the group has none left."""

    def __str__(self) -> str:
        what = "1 result or failure waits" if self.count == 1 else f"{self.count:,} results and failures wait"
        seen = "there is no consumer" if self.unseen_ms is None else "no consumer was seen for an hour"
        age = "" if self.oldest_age_ms is None else f" the oldest for {self.oldest_age_ms // _HOUR_MS:,} h,"
        return f"{what} for a handler,{age} and {seen}"


class Unhandled(Verbs[S_co]):
    """The results and failures of one batcher that no handler has finished with."""

    def __init__(self, server: S_co, keys: Keys, *, neglected_ms: int = Timing.neglected_ms) -> None:
        super().__init__(server)
        self._key = keys.results
        self._neglected_ms = neglected_ms

    @verb
    def count(self) -> Request[int]:
        """How many there are."""
        return self._count()

    @verb
    def last_id(self) -> Steps[str]:
        """The id of the newest entry that was ever added; "0-0" if there was none."""
        info = yield from unless_gone(command("XINFO", "STREAM", self._key), [])
        newest: bytes = pairs(info).get(b"last-generated-id", b"0-0")
        return newest.decode()

    @verb
    def any_up_to(self, entry_id: str) -> Request[bool]:
        """Whether an entry up to this id is still there."""
        return command("XRANGE", self._key, "-", entry_id, "COUNT", 1).then(bool)

    @verb
    def neglect(self, now_ms: int) -> Steps[Neglect | None]:
        """The outcomes, if one has waited for an hour and no consumer was seen for an hour; otherwise None.

        ``now_ms`` is the server's time.
        """
        oldest_ms = yield from self._oldest_ms()
        if oldest_ms is None or now_ms - oldest_ms < self._neglected_ms:
            return None
        unseen_ms = yield from self._unseen_ms()
        if unseen_ms is not None and unseen_ms < self._neglected_ms:
            return None
        return Neglect((yield from self._count()), now_ms - oldest_ms, unseen_ms)

    @verb
    def unseen_ms(self) -> Steps[int | None]:
        """For how long no consumer has shown itself; None if there is none."""
        return self._unseen_ms()

    @verb
    def no_consumer(self) -> Steps[str]:
        """Says in words that there is no consumer; empty if one was seen within a minute."""
        unseen_ms = yield from self._unseen_ms()
        if unseen_ms is None:
            return "there is no consumer"
        if unseen_ms < _UNSEEN_MS:
            return ""
        return f"no consumer was seen for {unseen_ms // 1000:,} s"

    def _count(self) -> Request[int]:
        return command("XLEN", self._key).then(int)

    def _oldest_ms(self) -> Steps[int | None]:
        """When the oldest entry that is not a hint was added, if there is one among the first few."""
        start = "-"
        for _ in range(_HINTS_AT_MOST):  # one by one, because each may be large
            for entry_id, fields in (yield from command("XRANGE", self._key, start, "+", "COUNT", 1)):
                text = entry_id.decode()
                if not is_hint(pairs(fields)):
                    return int(text.partition("-")[0])
                start = f"({text}"
        return None

    def _unseen_ms(self) -> Steps[int | None]:
        consumers = yield from unless_gone(consumers_of(self._key), [])
        return min((seen.idle_ms for seen in consumers if seen.name != HANDED_BACK), default=None)
