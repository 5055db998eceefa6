"""The policy: how often, and for how long, failed batches are retried."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide on failed batches, by their names in the Config. Times are in seconds."""

    max_retries: int
    retry_delay: float
    max_retry_delay: float
    retry_for: float
    max_worker_deaths: int
    isolate_failures: bool
    give_up_on: tuple[type[BaseException], ...]
    retry_on: tuple[type[BaseException], ...]

    @classmethod
    def of(cls, settings: object) -> Self:
        """Read the settings from an object that has attributes of these names."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})
