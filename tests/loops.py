"""The event loops that the client for asyncio has to work on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
import uvloop

from tests.waiting import wait_until

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


def run_in_anyio(work: Coroutine[Any, Any, T]) -> T:
    """Run it on anyio's backend for asyncio."""

    async def awaited() -> T:
        return await work

    return anyio.run(awaited)


RUNS: dict[str, Run[Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run, "anyio": run_in_anyio}


async def until(predicate: Callable[[], T], timeout: float = 30) -> T:  # noqa: ASYNC109 - as `wait_until`
    """`wait_until`, while other tasks go on."""
    return await asyncio.to_thread(wait_until, predicate, timeout)
