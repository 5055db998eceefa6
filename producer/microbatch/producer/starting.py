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
    """A batcher to record events with, its server reached (or waited for) and found fit.

    Args:
        config: its settings.
        linger: how long single events may wait in this process, in ms: see `MicroBatcher`.
        wait: how long to wait for a server that is away, in seconds; None: for as long as it takes.

    Raises:
        ConfigError: no server is set, a handler can't be used, or ``linger`` is not a number of milliseconds.
        AppError: it is called by an app that is being imported, and not by a program.
        Refused, Unsupported: the server does not let us in, or is too old.
        Unavailable, InDoubt, RefusedForNow: it was still not there after ``wait``.
    """
    refuse_while_importing("start()")
    broker = Broker(config)
    warn_of_contradictions(config)
    batcher = MicroBatcher(config, linger=linger, broker=broker)
    server = broker.server
    retry_until_answered(config.name, server.check_version, wait)
    log.info("%s: recording, at %s", config.name, server.where)
    return batcher
