"""What one process does with a batcher, and the point at which it is killed.

``python -m tests.roles ROLE [VERB WHEN]``, in the folder of the app, with the settings in the environment.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Literal

from microbatch.broker.app.loading import ENVIRONMENT_VARIABLE, load_config
from microbatch.broker.broker import Broker
from microbatch.broker.errors import MicrobatchError
from microbatch.broker.state.claims import RqPlace, claim_of
from microbatch.broker.transport import verb as verbs
from microbatch.broker.transport.request import Request, Steps
from microbatch.producer import Config, start
from microbatch.scheduler.scheduler import Scheduler
from microbatch.worker.rq.worker import work
from microbatch.worker.runner import BatchRunner

log = logging.getLogger(__name__)

When = Literal["before", "after"]


class NotHandledError(Exception):
    """An error that a handler raises."""


def produce(config: Config) -> None:
    """Record an event, and ask for it to be cut. The event has an id if ids are remembered."""
    with start(config) as mb:
        if config.dedupe_window:
            mb.record_event(1, id="one")
        else:
            mb.record_event(1)
        mb.stop()


def produce_many(config: Config) -> None:
    with start(config) as mb:
        mb.record_events([1, 2, 3, 4])


def produce_lingering(config: Config) -> None:
    """Record two events, which linger and are sent together."""
    with start(config, linger=10_000) as mb:
        for event in (1, 2):
            mb.record_event(event)
        mb.stop()


def schedule(config: Config) -> None:
    Scheduler(config).run()


def schedule_and_leave(config: Config) -> None:
    """Be active for one step."""
    scheduler = Scheduler(config)
    scheduler.run_once()
    scheduler.stop()
    scheduler.run()


def claim_and_give_back(config: Config) -> None:
    """Do what a worker does that is told to stop while it has a batch in hand."""
    runner = BatchRunner(config)
    for batch_id in runner.broker.ledger.in_flight():
        if (batch := runner.claim(batch_id)) is not None:
            rq = RqPlace(f"rq:queue:{runner.broker.keys.queue}", "rq:job:")
            runner.broker.claims.give_back(claim_of(batch), rq, due_ms=runner.broker.clock.now_ms())


def consume(config: Config) -> None:
    with start(config) as mb:
        mb.wait_for_results()


def consume_and_leave(config: Config) -> None:
    mb = start(config)
    mb.wait_for_results(0.3)
    mb.close()


def consume_and_hand_back(config: Config) -> None:
    """Read results, and close the batcher when none of them is handled."""

    def fail(result: object) -> None:
        raise NotHandledError

    mb = start(config.model_copy(update={"result_handler": fail}))
    with suppress(NotHandledError):
        mb.wait_for_results()
    mb.close()


def replay(config: Config) -> None:
    broker = Broker(config)
    for batch in list(broker.dead):
        broker.dead.replay(batch.id)


def purge(config: Config) -> None:
    broker = Broker(config)
    for batch in list(broker.dead):
        broker.dead.purge(batch.id)


ROLES: dict[str, Callable[[Config], None]] = {
    "producer": produce,
    "bulk producer": produce_many,
    "lingering producer": produce_lingering,
    "scheduler": schedule,
    "leaving scheduler": schedule_and_leave,
    "worker": work,
    "stopping worker": claim_and_give_back,
    "consumer": consume,
    "leaving consumer": consume_and_leave,
    "consumer that hands back": consume_and_hand_back,
    "replay": replay,
    "purge": purge,
}


def kill_at(verb: str, when: When) -> None:
    """Kill this process right before or right after its first call of ``verb``."""
    module, owner, name = verb.rsplit(".", 2)
    package = "microbatch.broker" if module.startswith("state.") else "microbatch"
    cls = getattr(importlib.import_module(f"{package}.{module}"), owner)
    found = getattr(cls, name)
    method = found.ask if isinstance(found, verbs.verb) else found

    @functools.wraps(method)
    def last(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            die()
        return die_after(method(*args, **kwargs))

    setattr(cls, name, verbs.verb(last) if isinstance(found, verbs.verb) else last)


def die_after(done: object) -> Request[None] | Steps[None] | None:
    """Kill this process now, or when the verb's request is done."""
    if isinstance(done, Request):
        return done.then(die)
    if isinstance(done, Generator):
        return die_after_steps(done)
    die()
    return None


def die_after_steps(steps: Steps[object]) -> Steps[None]:
    yield from steps
    die()


def die(_answer: object = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(role: str, verb: str = "", when: When = "before") -> int:
    """Play a role. ``verb`` is the last one that is called, such as ``broker.ledger.Ledger.commit``."""
    logging.basicConfig(level="INFO")
    os.environ[ENVIRONMENT_VARIABLE] = "app.py"
    config = load_config("app.py")
    if verb:
        kill_at(verb, when)
    try:
        ROLES[role](config)
    except MicrobatchError:
        log.exception("it ends")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
