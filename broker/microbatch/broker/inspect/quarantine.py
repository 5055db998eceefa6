"""The quarantine: values that Microbatch can't have written, and how long they have been idle."""

from __future__ import annotations

from dataclasses import dataclass

from microbatch.broker.lua import scripts
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.request import Value, call, command, each
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.identity import new_id
from microbatch.broker.wire.text import printable

_AT_ONCE = 1_000


def quarantine_keys(server: Server, keys: Keys) -> list[str]:
    """Quarantine keys of the wrong type, used-up streams, and counters that are not numbers.

    They are kept under ``quarantine:*`` for a person to look at. Nothing that is kept there is overwritten.
    Correct values are not touched, so any process may call this at any time. Returns one line for each value
    that was quarantined. Raises ServerError.
    """
    types = keys.types()
    names = [name for key in types for name in (key, keys.quarantine_of(key))]
    wrong = []
    args: tuple[Value, ...] = (new_id(), len(keys.of_numbers), *types.values())
    for position, place, used_up, *field in server.perform(call(scripts.QUARANTINE_KEYS, names, args)):
        key = list(types)[position - 1]
        if field:
            what, why = f"{key}: {printable(field[0])}", "was no number"
        else:
            what, why = key, "had used its last id" if used_up else f"was no {types[key]}"
        wrong.append(f"{what} {why}, and is quarantined as {place.decode()}")
    return wrong


@dataclass(frozen=True, slots=True)
class QuarantinedKey:
    """A key under which something was quarantined."""

    key: bytes
    idle_seconds: int
    """For how long nobody has read or written it."""


class Quarantine:
    """Finds the keys of one batcher under which something was quarantined.

    There is no list of them. They are found by scanning all keys of the server, step by step.
    """

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._pattern = literal(keys.quarantine("")) + "*"
        self._results = keys.quarantine_of(keys.results)
        self._cursor = 0

    def look(self) -> list[QuarantinedKey]:
        """Look at the next keys of the server, about a thousand. Returns those that were quarantined."""
        scan = command("SCAN", self._cursor, "MATCH", self._pattern, "COUNT", _AT_ONCE)
        cursor, found = self._server.perform(scan)
        self._cursor = int(cursor)
        if not found:
            return []
        idle = self._server.perform(each(*(("OBJECT", "IDLETIME", key) for key in found)))
        # A server with an LFU eviction policy does not tell idle times, and a key may be gone by now.
        pairs = zip(found, idle, strict=True)
        return [QuarantinedKey(key, seconds) for key, seconds in pairs if isinstance(seconds, int)]

    def trim_results(self, most: int) -> None:
        """Delete the oldest quarantined results beyond the newest ``most``, up to a thousand in one call."""
        (length,) = self._server.perform(each(("LLEN", self._results)))
        if isinstance(length, int) and length > most:  # an error says that it is not our list
            self._server.do("LTRIM", self._results, min(length - most, _AT_ONCE), -1)

    @property
    def at_the_end(self) -> bool:
        """Whether the last look has reached the last key. The next one starts again from the first."""
        return self._cursor == 0

    def remove(self, keys: list[bytes]) -> int:
        """Delete these keys. Returns how many existed."""
        return int(self._server.do("UNLINK", *keys)) if keys else 0


def literal(text: str) -> str:
    """A pattern that matches only this text."""
    return "".join(f"\\{char}" if char in "\\*?[]^" else char for char in text)
