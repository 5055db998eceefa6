"""What was put aside, and how long nobody has touched it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.server import Server

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class AsideKey:
    """A key under which something was put aside."""

    key: bytes
    idle_seconds: int
    """For how long nobody has read or written it."""


class Aside:
    """The keys of one batcher under which something was put aside.

    There is no list of them: they are found by walking through all keys of the server, step by step.
    """

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._pattern = literal(keys.aside("")) + "*"
        self._results = keys.aside_of(keys.results)
        self._cursor = 0

    def look(self) -> list[AsideKey]:
        """Look at the next keys of the server, a thousand or some more. Returns those that were put aside."""
        with self._server.translated():
            reply: Any = self._server.client.scan(self._cursor, match=self._pattern, count=_AT_ONCE)
        self._cursor, found = reply
        if not found:
            return []
        idle = self._server.each(*(("OBJECT", "IDLETIME", key) for key in found))
        # A server that evicts by how often a key is used knows no such time; a key may have gone by now.
        pairs = zip(found, idle, strict=True)
        return [AsideKey(key, seconds) for key, seconds in pairs if isinstance(seconds, int)]

    def trim_results(self, most: int) -> None:
        """Throw away the oldest of the results that were put aside, where more than ``most`` are kept.

        A thousand at most are thrown away in one call.
        """
        (length,) = self._server.each(("LLEN", self._results))
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
