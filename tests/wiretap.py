"""A wiretap: the round trips of this process to a server, and the commands that its scripts call there."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import hiredis
import pytest
import redis.asyncio
from redis.connection import AbstractConnection

from microbatch.broker.lua import scripts
from microbatch.broker.lua.scripts import Script
from tests.servers import RealServer

SCRIPTS = [script for script in vars(scripts).values() if isinstance(script, Script)]

_NAMES = {script.sha: script.name for script in SCRIPTS}
_CONTAINERS = {"CLIENT", "XGROUP", "XINFO"}  # with subcommands, which the server counts separately


@dataclass
class Said:
    """What was sent while the tap was on."""

    trips: list[str] = field(default_factory=list)
    """The commands of each round trip, in order. A script appears by its name, in lower case."""
    calls: Counter[str] = field(default_factory=Counter)
    """How often scripts called each command at the server."""

    def __add__(self, then: Said) -> Said:
        return Said(self.trips + then.trips, self.calls + then.calls)

    def __str__(self) -> str:
        calls = (f"{name}*{count}" if count > 1 else name for name, count in sorted(self.calls.items()))
        return "\n".join([*self.trips, f"scripts call: {' '.join(calls) or 'nothing'}"])


@contextmanager
def wiretap(server: RealServer) -> Iterator[Said]:
    """Listen for the duration of a ``with`` block. No other process may use the server during it.

    A round trip begins with the first data sent on a connection after a reply was read there. The server
    counts all commands that it has executed. Scripts called those that this process did not send.
    """
    said, sent, unanswered = Said(), Counter[str](), dict[int, int]()

    def note_sent(connection: object, packed: Any) -> None:
        commands = _parse(packed)
        sent.update(map(_counted_as, commands))
        words = " ".join(map(_shown_as, commands))
        trip = unanswered.get(id(connection))
        if trip is None:
            unanswered[id(connection)] = len(said.trips)
            said.trips.append(words)
        else:
            said.trips[trip] += f" {words}"

    def note_read(connection: object) -> None:
        unanswered.pop(id(connection), None)

    server.admin.config_resetstat()
    with pytest.MonkeyPatch.context() as patched:
        for tapped in (AbstractConnection, redis.asyncio.connection.AbstractConnection):
            # What is called on asyncio returns an awaitable, so both are tapped in the same way.
            patched.setattr(tapped, "send_packed_command", _noting(note_sent, tapped.send_packed_command, 1))
            patched.setattr(tapped, "read_response", _noting(note_read, tapped.read_response, 0))
        yield said
    done = _done(server)
    assert sent <= done, f"sent, and not done at the server: {sent - done}"
    said.calls.update(done - sent)


def _noting(note: Callable[..., None], call: Callable[..., Any], noted: int) -> Callable[..., Any]:
    """``call``, which first notes its connection and the first ``noted`` arguments."""

    def noting(connection: object, *args: Any, **options: Any) -> Any:
        note(connection, *args[:noted])
        return call(connection, *args, **options)

    return noting


def _parse(packed: Any) -> list[list[str]]:
    reader = hiredis.Reader(encoding="latin-1")
    for piece in [packed] if isinstance(packed, str | bytes) else packed:
        reader.feed(piece)
    commands: list[list[str]] = []
    while command := reader.gets():
        commands.append(command)
    return commands


def _counted_as(command: list[str]) -> str:
    name = command[0].upper()
    return f"{name}|{command[1].upper()}" if name in _CONTAINERS else name


def _shown_as(command: list[str]) -> str:
    match command[0]:
        case "EVALSHA":
            return _NAMES[command[1]]
        case "EVAL":
            return _NAMES[hashlib.sha1(command[1].encode("latin-1")).hexdigest()]  # noqa: S324 - as the server
        case _:
            return _counted_as(command)


def _done(server: RealServer) -> Counter[str]:
    """How often the server has executed each command since the count was reset, without the reset itself."""
    stats: Any = server.admin.info("commandstats")
    done = {name.removeprefix("cmdstat_").upper(): command["calls"] for name, command in stats.items()}
    del done["CONFIG|RESETSTAT"]
    return Counter(done)
