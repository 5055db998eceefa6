"""The run record, the second value of a batch's list: how its runs ended, and who runs it now."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

from microbatch.broker.errors import DecodeError

_COUNT = rb"([0-9]{1,15})"
_RUN_RECORD = re.compile(b" ".join([*[_COUNT] * 5, b"([a-z]+)", b"(.*)"]), re.DOTALL)


class Mode(StrEnum):
    """What is known of a batch that has failed. It decides how its next failure is judged."""

    WHOLE = "whole"
    """Only its count of failures."""
    PROBE = "probe"
    """A single event, run to tell a bad event from an outage."""
    ISOLATING = "isolating"
    """A part of a batch that failed while others succeeded: it is divided down to the bad events."""
    SUSPECT = "suspect"
    """A single event that failed alone once. It is at fault if something else succeeds, or if it fails after
    all its waits while the breaker is closed."""
    LATER = "later"
    """Its processor asked for the time of its next run."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """How the runs of a batch have ended so far, and who runs it now. An empty owner means that nobody does.

    Its text is the history, a space and the owner. Scripts replace the owner and keep the history.
    """

    runs: int = 0
    """How many runs ended without success."""
    failures: int = 0
    """How many of them count against ``max_retries``."""
    deaths: int = 0
    """How many of them ended with their worker."""
    since_ms: int = 0
    """When the first of them ended; 0 if there was none."""
    done: int = 0
    """How many events of the batcher were done when the last of them ended."""
    mode: Mode = Mode.WHOLE
    owner: str = ""

    @property
    def attempt(self) -> int:
        """The number of the present run, or of the next one, from 1."""
        return self.runs + 1

    def encode(self) -> str:
        history = f"{self.runs} {self.failures} {self.deaths} {self.since_ms} {self.done} {self.mode}"
        return f"{history} {self.owner}"

    @classmethod
    def decode(cls, raw: bytes) -> RunRecord:
        """Raises DecodeError when ``raw`` is not a run record."""
        match = _RUN_RECORD.fullmatch(raw)
        if match is None:
            raise DecodeError("a batch's run record is malformed")
        *counts, mode, owner = match.groups()
        runs, failures, deaths, since_ms, done = map(int, counts)
        try:
            known = Mode(mode.decode())
        except ValueError:
            raise DecodeError("a batch's run record is malformed") from None
        return cls(runs, failures, deaths, since_ms, done, known, owner.decode("utf-8", "replace"))

    def free(self) -> RunRecord:
        """The same record without an owner."""
        return replace(self, owner="")

    def failed(self, now_ms: int, *, charged: bool, done: int, mode: Mode) -> RunRecord:
        """The record after the present run has failed."""
        return RunRecord(
            self.runs + 1, self.failures + charged, self.deaths, self.since_ms or now_ms, done, mode
        )

    def died(self, now_ms: int) -> RunRecord:
        """The record after the present run has ended with its worker."""
        ended = RunRecord(self.runs + 1, self.failures, self.deaths + 1, self.since_ms or now_ms)
        return replace(ended, done=self.done, mode=self.mode)
