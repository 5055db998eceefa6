"""The quarantine: values that Microbatch can't have written, and how long nobody has touched them."""

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
    """Move keys of the wrong type, used-up streams, and counters that are not numbers, out of the way.

    They are kept under ``quarantine:*`` for a person to look at. Nothing that is kept there is overwritten.
    What is as it should be is not touched, so anybody may do this at any time. Returns one line for each.
    Raises ServerError.
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
    """The keys of one batcher under which something was quarantined.

    There is no list of them: they are found by walking through all keys of the server, step by step.
    """

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._pattern = literal(keys.quarantine("")) + "*"
        self._results = keys.quarantine_of(keys.results)
        self._cursor = 0

    def look(self) -> list[QuarantinedKey]:
        """Look at the next keys of the server, some thousand. Returns those that were quarantined."""
        scan = command("SCAN", self._cursor, "MATCH", self._pattern, "COUNT", _AT_ONCE)
        cursor, found = self._server.perform(scan)
        self._cursor = int(cursor)
        if not found:
            return []
        idle = self._server.perform(each(*(("OBJECT", "IDLETIME", key) for key in found)))
        # A server that evicts by how often a key is used knows no such time; a key may have gone by now.
        pairs = zip(found, idle, strict=True)
        return [QuarantinedKey(key, seconds) for key, seconds in pairs if isinstance(seconds, int)]

    def trim_results(self, most: int) -> None:
        """Throw away the oldest of the results that were quarantined, where more than ``most`` are kept.

        A thousand at most are thrown away in one call.
        """
        (length,) = self._server.perform(each(("LLEN", self._results)))
        if isinstance(length, int) and length > most:  # and no error, which says that it is not our list
            self._server.do("LTRIM", self._results, min(length - most, _AT_ONCE), -1)

    @property
    def at_the_end(self) -> bool:
        """Whether the last look has come to the last key; the next one begins anew."""
        return self._cursor == 0

    def remove(self, keys: list[bytes]) -> int:
        """Throw away what stands under these keys. Returns how many there were."""
        return int(self._server.do("UNLINK", *keys)) if keys else 0


def literal(text: str) -> str:
    """The text as a pattern that matches nothing else."""
    return "".join(f"\\{char}" if char in "\\*?[]^" else char for char in text)
