"""What waits on the results stream: how much, for how long, and whether there is a consumer."""

from __future__ import annotations

from dataclasses import dataclass

from microbatch.broker.state.keys import Keys
from microbatch.broker.state.results import GROUP, HANDED_BACK, ask_of_stream, is_hint
from microbatch.broker.transport.server import Server

NEGLECTED_MS = 3_600_000
"""How long results may wait, and no consumer be seen, before they are neglected."""
_HINTS_AT_MOST = 10
_UNSEEN_MS = 60_000  # a consumer that waits shows itself every few seconds


@dataclass(frozen=True, slots=True)
class Neglect:
    """Results and failures that wait for a handler, and nobody comes for them."""

    count: int
    oldest_age_ms: int | None
    """None where the entries may not be read."""
    unseen_ms: int | None
    """For how long no consumer has shown itself; None if there never was one, or none is remembered."""

    def __str__(self) -> str:
        what = "1 result or failure waits" if self.count == 1 else f"{self.count:,} results and failures wait"
        seen = "there is no consumer" if self.unseen_ms is None else "no consumer was seen for an hour"
        age = (
            "" if self.oldest_age_ms is None else f" the oldest for {self.oldest_age_ms // NEGLECTED_MS:,} h,"
        )
        return f"{what} for a handler,{age} and {seen}"


class Unhandled:
    """The results and failures of one batcher that no handler has finished with."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._key = keys.results

    def count(self) -> int:
        """How many there are."""
        return int(self._server.do("XLEN", self._key))

    def last_id(self) -> str:
        """The id of the newest entry that was ever added; "0-0" if none was."""
        info = ask_of_stream(self._server, lambda: self._server.client.xinfo_stream(self._key), dict)
        return _text(info.get("last-generated-id", "0-0"))

    def any_up_to(self, entry_id: str) -> bool:
        """Whether an entry up to this id is still there."""
        return bool(self._server.do("XRANGE", self._key, "-", entry_id, "COUNT", 1))

    def neglect(self, now_ms: int) -> Neglect | None:
        """Whether nobody has come for what waits within the last hour, of the server's time ``now_ms``."""
        oldest_ms = self._oldest_ms()
        if oldest_ms is None or now_ms - oldest_ms < NEGLECTED_MS:
            return None
        unseen_ms = self.unseen_ms()
        if unseen_ms is not None and unseen_ms < NEGLECTED_MS:
            return None
        return Neglect(self.count(), now_ms - oldest_ms, unseen_ms)

    def _oldest_ms(self) -> int | None:
        """When the oldest entry that is not a hint was added, if there is one among the first few."""
        start = "-"
        for _ in range(_HINTS_AT_MOST):  # one by one, as each may be large
            for entry_id, fields in self._server.do("XRANGE", self._key, start, "+", "COUNT", 1):
                text = _text(entry_id)
                if not is_hint(fields):
                    return int(text.partition("-")[0])
                start = f"({text}"
        return None

    def unseen_ms(self) -> int | None:
        """For how long no consumer has shown itself; None if there is none."""
        consumers = ask_of_stream(
            self._server, lambda: self._server.client.xinfo_consumers(self._key, GROUP), list
        )
        idle = [int(found["idle"]) for found in consumers if _text(found["name"]) != HANDED_BACK]
        return min(idle, default=None)

    def no_consumer(self) -> str:
        """That nobody comes for results, in words; empty if a consumer was seen within a minute."""
        unseen_ms = self.unseen_ms()
        if unseen_ms is None:
            return "there is no consumer"
        if unseen_ms < _UNSEEN_MS:
            return ""
        return f"no consumer was seen for {unseen_ms // 1000:,} s"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
