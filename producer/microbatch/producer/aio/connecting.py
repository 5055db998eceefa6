"""Connects a program of asyncio to a batcher."""

from __future__ import annotations

from microbatch.broker.app.config import Config
from microbatch.broker.app.contradictions import warn_of_contradictions
from microbatch.broker.app.importing import refuse_while_importing
from microbatch.producer.aio.client import AsyncMicroBatcher


def connect(config: Config, *, wait: float | None = None) -> AsyncMicroBatcher:
    """A batcher for asyncio, to be used in ``async with``. Nothing is sent before the block begins.

        async with connect(config) as mb:
            await mb.record_event("a")

    The block begins once the server has answered and can be used. At its end, the batcher stops and closes.

    Args:
        config: the batcher's settings.
        wait: how long to wait for a server that is away, in seconds; None: for as long as it takes.

    Raises:
        ConfigError: no server is set, its URL is malformed or one of Sentinels, or a handler can't be used.
        AppError: an app calls this while it is being imported; only a program may call it.
        Refused, Unsupported: from the block's begin. The server refuses access, or is too old or in cluster
            mode.
        Unavailable, InDoubt, RefusedForNow: from the block's begin. The server could still not be used after
            ``wait`` seconds.
        WrongLoop: from the block's begin. No event loop of asyncio is running.
    """
    refuse_while_importing("connect()")
    warn_of_contradictions(config)
    return AsyncMicroBatcher(config, wait=wait)
