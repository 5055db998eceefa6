"""The list of a server's batchers."""

from __future__ import annotations

from collections.abc import Callable

from microbatch.broker.state.keys import Keys, name_in, pattern_of_all
from microbatch.broker.transport.request import command, each
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.text import printable

_AT_ONCE = 2_000  # the keys that one SCAN looks at; meanwhile the server does nothing else


def is_used(server: Server, keys: Keys) -> bool:
    """Whether a scheduler has published this batcher's settings, or an event of it waits or was cut.

    Also True if the server refuses to say. Takes one round trip, with commands that every role is allowed.
    """
    asked = ("HGET", keys.config, "frequency"), ("LLEN", keys.events), ("HGET", keys.stats, "cut_events")
    published, waiting, cut = server.perform(each(*asked))
    return bool(published or waiting or cut)  # an error is true as well


def names(server: Server, key_prefix: str, on_progress: Callable[[], None] = lambda: None) -> list[str]:
    """The names of all batchers with this prefix, sorted. Scans all keys of the server.

    ``on_progress`` is called after each step. Raises ServerError.
    """
    found: set[str] = set()
    cursor = 0
    while True:
        scan = command("SCAN", cursor, "MATCH", pattern_of_all(key_prefix), "COUNT", _AT_ONCE)
        raw_cursor, keys = server.perform(scan)
        cursor = int(raw_cursor)
        found.update(name for key in keys if (name := name_in(printable(key), key_prefix)) is not None)
        on_progress()
        if not cursor:
            return sorted(found)
