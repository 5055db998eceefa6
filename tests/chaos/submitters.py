"""The clients that submit, on threads and on asyncio.

A client submits a few events at a time, again and again. It notes each call, and how its future ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from typing import Any

from microbatch.broker.errors import MicrobatchError
from microbatch.producer import MicroBatcher, connect, start
from microbatch.producer.aio.client import AsyncMicroBatcher
from tests.chaos import app, own_app
from tests.chaos.conditions import OWN_NAME
from tests.chaos.history import INVOKE, OK
from tests.chaos.submissions import RESULT

_PAUSE_SECONDS = 0.4
_MOST_AT_ONCE = 12
_TIMEOUT_SECONDS = 30.0
_LAST_SECONDS = _TIMEOUT_SECONDS + 5.0
"""How long a client that is told to stop waits for replies. Then it closes, which settles all futures."""


class Submitted:
    """One event that is submitted, with the arguments of the call. Each call and its end is noted."""

    def __init__(self, event_id: str, shared_id: str | None, dice: random.Random) -> None:
        self.event = own_app.new_event(event_id, dice)
        timeouts = (_TIMEOUT_SECONDS, dice.uniform(0.01, 0.3), None)
        self.arguments: dict[str, Any] = {
            "id": shared_id,
            "timeout": dice.choices(timeouts, weights=(8, 1, 1))[0],
            "expires": dice.uniform(0.05, 1.5) if dice.random() < 0.25 else None,
        }
        self.is_fickle = dice.random() < 0.03
        """Whether it is cancelled before long."""

    def begin(self) -> None:
        self._call, self._since = app.history.new_call(), time.monotonic()
        facts = {**self.arguments, "fickle": self.is_fickle, "poison": self.event["kind"] == app.POISON}
        self._note(INVOKE, **facts)

    def end(self, outcome: str, value: object = None) -> None:
        self._note(OK, outcome=outcome, value=value)

    def end_as(self, future: Future[Any]) -> None:
        """The callback of its future."""
        try:
            result = future.result()
        except (Exception, CancelledError) as error:  # noqa: BLE001 - the checker judges it
            self.end(type(error).__name__)
        else:
            self.end(RESULT, result)

    def _note(self, state: str, **facts: Any) -> None:
        app.history.note(
            "submit", state, call=self._call, since=self._since,
            batcher=OWN_NAME, event=self.event["id"], **facts,
        )  # fmt: skip


def _some(dice: random.Random) -> Iterator[list[Submitted]]:
    """What is submitted at the same time, again and again. Sometimes two events have the same id."""
    count = 0
    while True:
        first, many = count, dice.randint(1, _MOST_AT_ONCE)
        count += many
        names = [f"{os.environ[app.WHO]}.{os.getpid()}.{first + i}" for i in range(many)]
        shared = names[0] if dice.random() < 0.2 else None
        yield [Submitted(name, shared if i < 2 else None, dice) for i, name in enumerate(names)]


def submit(stop: threading.Event) -> None:
    """Submit events on threads until told to stop."""
    dice = random.Random(sys.argv[2])
    some = _some(dice)
    futures: list[Future[Any]] = []
    fickle: list[Future[Any]] = []
    with start(own_app.config, wait=0) as batcher:
        while not stop.wait(dice.uniform(0, 2 * _PAUSE_SECONDS)):
            for future in fickle:
                future.cancel()
            submitted = [(each, _submit(batcher, each)) for each in next(some)]
            futures += [future for _, future in submitted if future is not None]
            fickle = [future for each, future in submitted if future is not None and each.is_fickle]
        wait(futures, _LAST_SECONDS)


def _submit(batcher: MicroBatcher, submitted: Submitted) -> Future[Any] | None:
    submitted.begin()
    try:
        future = batcher.submit(submitted.event, **submitted.arguments)
    except MicrobatchError as error:
        submitted.end(type(error).__name__)
        return None
    future.add_done_callback(submitted.end_as)
    return future


async def await_replies() -> None:
    """Submit events on asyncio until told to stop."""
    dice = random.Random(sys.argv[2])
    some = _some(dice)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    tasks: list[asyncio.Task[None]] = []
    fickle: list[asyncio.Task[None]] = []
    async with connect(own_app.config, wait=0) as batcher:
        while not await _is_set(stop, dice.uniform(0, 2 * _PAUSE_SECONDS)):
            for task in fickle:
                task.cancel()
            submitted = [(each, asyncio.create_task(_await(batcher, each))) for each in next(some)]
            tasks += [task for _, task in submitted]
            fickle = [task for each, task in submitted if each.is_fickle]
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_SECONDS)
    await asyncio.gather(*tasks)


async def _await(batcher: AsyncMicroBatcher, submitted: Submitted) -> None:
    submitted.begin()
    try:
        result = await batcher.submit(submitted.event, **submitted.arguments)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the checker judges it
        submitted.end(type(error).__name__)
    else:
        submitted.end(RESULT, result)


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set, as soon as it is, or after ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
