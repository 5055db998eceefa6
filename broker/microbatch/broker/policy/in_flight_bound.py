"""The bound on batches in flight: a number, or a multiple of the number of workers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

MOST_PER_WORKER = 100
EAGER_DEFAULT = "workers"
"""The bound with eager cutting. Events wait in the list while all workers are busy, so that batches grow.

With a second batch for each worker, a batch would wait in RQ's queue for as long as a run takes, without
growing.
"""

_TEXT = re.compile(r"(?:0*([0-9]{1,9}) *\* *)?workers")
_HELP = f"a number of batches above 0, 'workers', or '2*workers' up to '{MOST_PER_WORKER}*workers'"


@dataclass(frozen=True, slots=True)
class InFlightBound:
    """How many batches may be queued or running."""

    number: int
    per_worker: bool = False
    """Whether ``number`` is for each worker."""

    @classmethod
    def of(cls, setting: int | str) -> Self:
        """Read ``max_in_flight``: a number, ``"workers"``, or a text such as ``"2*workers"``.

        Raises:
            ValueError: the setting is neither, or it is out of bounds. The message says what is allowed.
        """
        text = str(setting).strip()
        if not isinstance(setting, bool) and re.fullmatch(r"0*[0-9]{1,18}", text) and int(text) > 0:
            return cls(int(text))
        found = _TEXT.fullmatch(text)
        number = int(found[1] or 1) if found else 0
        if not 1 <= number <= MOST_PER_WORKER:
            raise ValueError(f"{setting!r} is not a bound; write {_HELP}")
        return cls(number, per_worker=True)

    def most(self, workers: int) -> int:
        """The most batches, if there are this many workers. Without workers, one counts nevertheless."""
        return self.number * max(workers, 1) if self.per_worker else self.number

    def __str__(self) -> str:
        if not self.per_worker:
            return str(self.number)
        return "workers" if self.number == 1 else f"{self.number}*workers"


def read_bound(value: object) -> object:
    """Check ``max_in_flight``, and write it in its shortest form: a number, or a text as `InFlightBound` has.

    Raises:
        ValueError: it is not a bound.
    """
    if not isinstance(value, (int, str)):
        raise ValueError(f"{value!r} is not a bound; write {_HELP}")
    bound = InFlightBound.of(value)
    return str(bound) if bound.per_worker else bound.number
