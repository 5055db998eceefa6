"""The roles: what the process of an actor does. ``python -m tests.chaos.roles ROLE SEED``."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import time

from microbatch.broker.errors import BatcherFull, InDoubt, MicrobatchError, Refused, ServerError, Unavailable
from microbatch.producer import MicroBatcher, start
from microbatch.scheduler.service import SchedulerService
from microbatch.worker.pool import WorkerPool
from tests.chaos import app, mutants, own_app, submitters
from tests.chaos.conditions import REPLY_SECONDS
from tests.chaos.history import DOUBT, FAIL, INVOKE, OK
from tests.chaos.recording import record_verbs, record_what_is_sent
from tests.times import hurry_for_good

log = logging.getLogger(__name__)

_WORKERS_APP = "tests.chaos.worker_app"
_MANY = 30
_CLAIM_SECONDS = 30
"""A stopper's ``claim_after``. With the default, a missed result costs its longest wait, five seconds."""


def schedule() -> None:
    at_work = os.environ[app.BATCHERS].split(",")
    SchedulerService([each for each in (app.config, own_app.config) if each.name in at_work]).run()


def run_batches() -> None:
    """Run a pool of one worker, which is a separate process."""
    WorkerPool(f"{_WORKERS_APP}:config", 1).run()


def run_own_batches() -> None:
    """The same, for the batches of the clients that submit."""
    WorkerPool(f"{_WORKERS_APP}:own_config", 1).run()


def consume() -> None:
    """Handle results until told to stop."""
    batcher = MicroBatcher(app.config)
    stop = _stop_on_signal()
    while not stop.is_set():
        try:
            batcher.wait_for_results(1.0)
        except ServerError as error:
            log.warning("waiting for results again: %s", error)
            stop.wait(0.2)


def produce() -> None:
    """Record events until told to stop. A recording in doubt is repeated only if it has an id."""
    stop = _stop_on_signal()
    batcher, dice = MicroBatcher(app.config), random.Random(sys.argv[2])
    count = 0
    while not stop.wait(dice.uniform(0, 2 * app.conditions.pause_seconds)):
        many = _MANY if dice.random() < 0.02 else 1
        ids = [f"{os.environ[app.WHO]}.{os.getpid()}.{count + i}" for i in range(many)]
        count += many
        _record(batcher, ids, dice, stop)


def _record(batcher: MicroBatcher, ids: list[str], dice: random.Random, stop: threading.Event) -> None:
    events = [app.new_event(event_id, dice) for event_id in ids]
    repeatable = len(ids) == 1 and dice.random() < 0.5
    call, since = app.history.new_call(), time.monotonic()
    poison = [event["id"] for event in events if event["kind"] == app.POISON]
    app.history.note("record", INVOKE, call=call, events=ids, poison=poison)
    while True:
        try:
            if repeatable:
                batcher.record_event(events[0], id=ids[0])
            elif len(ids) == 1:
                batcher.record_event(events[0])
            else:
                batcher.record_events(events)
        except InDoubt:
            if repeatable and not stop.wait(0.1):
                continue
            state = DOUBT
        except (Unavailable, Refused, BatcherFull):
            # An earlier try may have been in doubt.
            state = DOUBT if repeatable else FAIL
            stop.wait(0.2)
        else:
            state = OK
        app.history.note("record", state, call=call, since=since, events=ids)
        return


def stop_often() -> None:
    """Record an event, stop, and wait for the end, again and again, as the README's program does."""
    stop, dice, count = _stop_on_signal(), random.Random(sys.argv[2]), 0
    config = app.config.model_copy(update={"claim_after": _CLAIM_SECONDS})
    while not stop.wait(dice.uniform(0, 2 * app.conditions.pause_seconds)):
        count += 1
        event_id = f"{os.environ[app.WHO]}.{os.getpid()}.{count}"
        try:
            with start(config, wait=0) as batcher:
                _record(batcher, [event_id], random.Random(event_id), stop)
                batcher.stop()
                call, since = app.history.new_call(), time.monotonic()
                app.history.note("stop", INVOKE, call=call)
                batcher.wait_for_results()
                app.history.note("stop", OK, call=call, since=since)
        except ServerError as error:
            log.warning("stopping again: %s", error)
            stop.wait(0.2)


def submit() -> None:
    """Submit events on threads until told to stop."""
    _prepare_to_submit()
    submitters.submit(_stop_on_signal())


def await_replies() -> None:
    """Submit events on asyncio until told to stop."""
    _prepare_to_submit()
    asyncio.run(submitters.await_replies())


def _prepare_to_submit() -> None:
    hurry_for_good(reply_ttl_ms=int(REPLY_SECONDS * 1000))
    record_what_is_sent()


def _stop_on_signal() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


ROLES = {
    "producer": produce,
    "scheduler": schedule,
    "worker": run_batches,
    "consumer": consume,
    "stopper": stop_often,
    "worker-own": run_own_batches,
    "submitter": submit,
    "awaiter": await_replies,
}


def main() -> int:
    logging.basicConfig(level="INFO", format="%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(message)s")
    mutants.apply(os.environ.get(app.MUTANT, ""))
    record_verbs()
    app.history.note("start")
    try:
        ROLES[sys.argv[1]]()
    except MicrobatchError as error:
        log.warning("ends, and is to be started again: %s", error)  # as when the server is away
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
