"""What each outcome of a future promises about its event. This is the table in docs/submitting.md.

Each function says what is wrong, or returns an empty text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from tests.chaos.blindness import Span, blind
from tests.chaos.conditions import REPLY_SECONDS
from tests.chaos.evidence import Evidence
from tests.chaos.state import State
from tests.chaos.submissions import RESULT, Submission, submissions

_READS_SECONDS = REPLY_SECONDS / 4
"""How often a client reads at least, which renews the life of its replies."""
_TOLD_SECONDS = 10.0
"""How long after a loss a client is told of it."""


class Ledger:
    """What became of the events."""

    def __init__(self, found: Evidence, state: State) -> None:
        self.found = found
        self.max_pending = state.max_pending
        self.dead = {event for events in state.dead.values() for event in events}
        self.dead.update(event for event, times in found.replayed.items() if times)
        """Events that are dead, or were before a replay."""
        self.cut = found.batches_of_events().keys() | found.given | self.dead
        self.calm_at = next((note.at for note in found.notes if note.what == "calm"), 0.0)
        self._all = submissions(found)
        self._by_id: dict[str, set[str]] = defaultdict(set)
        self._blind: dict[str, list[Span]] = {}
        for submission in self._all:
            self._by_id[submission.begin["id"]].add(submission.event)

    def others(self, submission: Submission) -> set[str]:
        """The other events with its id that may have been recorded."""
        maybe = self.found.recorded | self.found.doubtful
        return self._by_id[submission.begin["id"]] & maybe - {submission.event}

    def pending(self, submission: Submission) -> int:
        """How many other futures of its client were pending at some time during its call."""
        begin, end = submission.begin, submission.ends[0]
        return sum(
            each.begin.pid == begin.pid
            and each.begin.at < end.at
            and not any(ended.at < begin.at for ended in each.ends)
            for each in self._all
            if each is not submission
        )

    def was_blind(self, submission: Submission) -> bool:
        """Whether its client did not read for so long that its replies may have been lost."""
        begin, end = submission.begin, submission.ends[0]
        spans = self._blind.setdefault(begin.who, blind(self.found, begin.who))
        return any(
            first < end.at < last + _TOLD_SECONDS and last - first >= REPLY_SECONDS - _READS_SECONDS
            for first, last in spans
        )


Promise = Callable[[Ledger, Submission], str]


def _result(ledger: Ledger, submission: Submission) -> str:
    return "the event is dead" if submission.event in ledger.dead else ""


def _failed(ledger: Ledger, submission: Submission) -> str:
    return "" if submission.event in ledger.dead else "the event is not dead"


def _expired(ledger: Ledger, submission: Submission) -> str:
    if submission.begin["expires"] is None:
        return "the event does not expire"
    if submission.event in ledger.found.given | ledger.dead:
        return "the processor was given the event"
    return ""


def _timed_out(_ledger: Ledger, submission: Submission) -> str:
    timeout, took = submission.begin["timeout"], submission.ends[0].at - submission.begin.since
    return "" if timeout is not None and took >= timeout else f"only {took:.2f} s of {timeout} s were over"


def _lost(ledger: Ledger, submission: Submission) -> str:
    return "" if ledger.was_blind(submission) else "its client could read all the time"


def _not_recorded(ledger: Ledger, submission: Submission) -> str:
    return "the event was recorded" if submission.event in ledger.cut else ""


def _already_recorded(ledger: Ledger, submission: Submission) -> str:
    if not ledger.others(submission):
        return "no other event with its id was recorded"
    return _not_recorded(ledger, submission)


def _too_many(ledger: Ledger, submission: Submission) -> str:
    if (pending := ledger.pending(submission)) < ledger.max_pending:
        return f"only {pending} were pending"
    return _not_recorded(ledger, submission)


def _in_doubt(ledger: Ledger, submission: Submission) -> str:
    """Only the question for the server's time, which is asked for an expiry, raises this."""
    if submission.begin["expires"] is None:
        return "a future in doubt stays pending"
    return _not_recorded(ledger, submission)


def _closed(ledger: Ledger, submission: Submission) -> str:
    if submission.begin["timeout"] is not None:
        return "its timeout had to be over before"
    return "" if submission.ends[0].at > ledger.calm_at > 0 else "its client was at work"


def _cancelled(_ledger: Ledger, submission: Submission) -> str:
    return "" if submission.begin["fickle"] else "nobody cancelled it"


def _unknown(_ledger: Ledger, _submission: Submission) -> str:
    return "no future may raise that"


PROMISES: dict[str, Promise] = defaultdict(
    lambda: _unknown,
    {
        RESULT: _result,
        "EventFailed": _failed,
        "EventExpired": _expired,
        "TimeoutError": _timed_out,
        "ReplyLost": _lost,
        "AlreadyRecorded": _already_recorded,
        "Unavailable": _not_recorded,
        "TooManyPending": _too_many,
        "InDoubt": _in_doubt,
        "Closed": _closed,
        "CancelledError": _cancelled,
    },
)
