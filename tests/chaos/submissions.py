"""The submissions: each call of `submit`, and how its future ended, according to the history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.evidence import Evidence
from tests.chaos.history import INVOKE, Note

RESULT = "result"
"""The outcome of a future that has a result. Any other outcome is the name of the error that it raises."""


@dataclass(slots=True)
class Submission:
    """One call."""

    begin: Note
    ends: list[Note] = field(default_factory=list)
    """One if all is well; none if the client was killed before."""

    @property
    def event(self) -> str:
        return str(self.begin["event"])

    @property
    def outcome(self) -> str:
        return str(self.ends[0]["outcome"]) if self.ends else ""

    @property
    def value(self) -> Any:
        """The result of its future."""
        return self.ends[0]["value"] if self.ends else None

    def __str__(self) -> str:
        return f"the future of event {self.event}"


def submissions(found: Evidence) -> list[Submission]:
    """All submissions, in the order of the calls."""
    calls: dict[tuple[int, int], Submission] = {}
    for note in found.notes:
        if note.what == "submit" and note.state == INVOKE:
            calls[note.pid, note.call] = Submission(note)
        elif note.what == "submit":
            calls[note.pid, note.call].ends.append(note)
    return list(calls.values())


def outcomes(found: Evidence) -> Counter[str]:
    """How many futures have each outcome."""
    return Counter(submission.outcome for submission in submissions(found) if submission.ends)
