"""Starts a batcher in an application's process."""

from __future__ import annotations

import logging

from microbatch.broker.app.config import Config
from microbatch.broker.app.contradictions import warn_of_contradictions
from microbatch.broker.app.importing import refuse_while_importing
from microbatch.broker.broker import Broker
from microbatch.broker.transport.backoff import retry_until_answered
from microbatch.producer.batcher import MicroBatcher

log = logging.getLogger(__name__)


def start(config: Config, *, linger: int | None = None, wait: float | None = None) -> MicroBatcher:
    """Start a batcher, and return it once its server has answered and can be used.

    Args:
        config: the batcher's settings.
        linger: how long single events may wait in this process, in ms: see `MicroBatcher`.
        wait: how long to wait for a server that is away, in seconds; None: for as long as it takes.

    Raises:
        ConfigError: no server is set, a handler can't be used, or ``linger`` is not a number of milliseconds.
        AppError: an app calls this while it is being imported; only a program may call it.
        Refused, Unsupported: the server refuses access, or is too old or in cluster mode.
        Unavailable, InDoubt, RefusedForNow: the server could still not be used after ``wait`` seconds.
    """
    refuse_while_importing("start()")
    broker = Broker(config)
    warn_of_contradictions(config)
    batcher = MicroBatcher(config, linger=linger, broker=broker)
    server = broker.server
    retry_until_answered(config.name, server.check_version, wait)
    log.info("%s: recording, at %s", config.name, server.where)
    return batcher
