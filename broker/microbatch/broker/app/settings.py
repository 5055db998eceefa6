"""The settings as a caller writes them: their names and types, for editors and type checkers.

`Config` says what each of them means, with its default and its bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypedDict

from microbatch.broker.wire.batch import BatchInfo

__all__ = ["Function", "Settings"]


class _Runs(Protocol):
    def run(self, value: Any, /) -> Any: ...


class _RunsWithInfo(Protocol):
    def run(self, value: Any, info: BatchInfo, /) -> Any: ...


Function = Callable[[Any], Any] | Callable[[Any, BatchInfo], Any] | _Runs | _RunsWithInfo | str
"""What is called with a batch, a result or a failure, and with a `BatchInfo` if it has a second parameter.

It is a function, which may be async; an object with such a method ``run``; or "module:name".
"""

_Duration = float | str
_Errors = type[BaseException] | Sequence[type[BaseException] | str] | str


class Settings(TypedDict, total=False):
    """The arguments of `Config`. Each may come from the environment instead."""

    name: str
    batch_processor: Function | None
    result_handler: Function | None
    failure_handler: Callable[[Any], Any] | _Runs | str | None
    frequency: int
    per_event: bool
    max_size: int
    eager: bool
    max_bytes: int
    redis_url: str | None
    key_prefix: str
    batch_timeout: int
    max_retries: int
    retry_delay: _Duration
    max_retry_delay: _Duration
    retry_for: _Duration
    give_up_on: _Errors
    retry_on: _Errors
    max_worker_deaths: int
    isolate_failures: bool
    max_in_flight: int | str
    max_waiting: int | None
    block_when_full: float
    max_pending: int
    keep_dead: _Duration | None
    keep_dead_max: int | None
    results: Literal["keep", "discard"]
    results_max: int | None
    max_event_bytes: int
    max_result_bytes: int
    dedupe_window: float
    durability: Literal["server", "replicated"]
    lease_ttl: float
    claim_after: float
