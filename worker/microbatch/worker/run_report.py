"""The report of a run: what became of it, once that is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microbatch.broker.errors import MicrobatchError
from microbatch.broker.wire.failure import Failure
from microbatch.broker.wire.in_flight import Part


class BatchDead(MicrobatchError):
    """A batch or parts of it are dead. Only an error makes RQ show a failed job."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a run of a batch."""

    text: str
    """The report in words."""
    is_dead: bool = False
    """Whether the batch, or a part of it, is dead."""
    error: BaseException | None = None
    """The exception that a dead batch died of, if there is one."""
    dead_parts: Sequence[tuple[Part, Failure]] = ()
    """The dead parts, if it is not the whole batch."""

    def tell_rq(self) -> str:
        """The text, for RQ to keep as the job's result. Raises BatchDead if RQ must show a failed job."""
        if self.is_dead:
            raise BatchDead(self.text) from self.error
        return self.text
