"""The history: a file of JSON lines, to which every process of a run appends what it does.

Each line is one `Note`. A verb is noted before it is called (``invoke``) and after it (``ok``, ``fail`` or
``doubt``). A process that is killed in between leaves an invocation without an end. Times are from the
machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INVOKE, OK, FAIL, DOUBT = "invoke", "ok", "fail", "doubt"


@dataclass(frozen=True, slots=True)
class Note:
    """One line: ``what`` was done, its ``state``, and when it began (``since``)."""

    at: float
    who: str
    pid: int
    what: str
    state: str = OK
    call: int = 0
    """Distinguishes the end of this call from the ends of other calls of the process."""
    since: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]

    def encode(self) -> bytes:
        head = [round(self.at, 6), self.who, self.pid, self.what, self.state, self.call, round(self.since, 6)]
        return json.dumps([*head, self.facts], separators=(",", ":")).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Note:
        return cls(*json.loads(line))


class History:
    """The part of the history that one process writes.

    A line is one write to a file that is open for appending, so lines of several processes do not mix.
    """

    def __init__(self, path: Path, who: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._who = who
        self._calls = itertools.count(1)

    def note(self, what: str, state: str = OK, *, call: int = 0, since: float = 0.0, **facts: Any) -> None:
        """Append a line. ``since``: when the noted call began, if it did not begin now."""
        now = time.monotonic()
        note = Note(now, self._who, os.getpid(), what, state, call, since or now, facts)
        os.write(self._file, note.encode())

    def new_call(self) -> int:
        """A number that no other call of this process has, on whatever thread."""
        return next(self._calls)

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> Iterator[Note]:
    """The notes of a history that no process writes to any more."""
    with path.open("rb") as file:
        yield from map(Note.decode, file)


def read_on(path: Path, offset: int) -> tuple[list[Note], int]:
    """The notes from ``offset`` bytes on, and where they end. An incomplete line is left for later."""
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [Note.decode(line) for line in whole.splitlines()], offset + len(whole)
