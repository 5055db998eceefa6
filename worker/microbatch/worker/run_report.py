"""The report of a run: what became of it, once that is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microbatch.broker.errors import MicrobatchError
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.in_flight import Part


class BatchDead(MicrobatchError):
    """A batch was given up, or parts of it. RQ takes an error for a failed job, and nothing else."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a run of a batch."""

    text: str
    """In words."""
    is_dead: bool = False
    """Whether the batch, or a part of it, was given up."""
    error: BaseException | None = None
    """What a dead batch died of, if that was raised."""
    dead_parts: Sequence[tuple[Part, Failure]] = ()
    """The parts that were given up, where it is not the whole batch."""

    def tell_rq(self) -> str:
        """The words, for RQ to keep as a job's result. Raises BatchDead if RQ is to show a failed job."""
        if self.is_dead:
            raise BatchDead(self.text) from self.error
        return self.text
