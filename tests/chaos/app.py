"""The app of a chaos run: its events, its processor and its handlers.

The processor returns the list of ids that it has processed, so a handler knows which events it handles.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microbatch.producer import BatchFailure, BatchInfo, PartialFailure
from tests.chaos.conditions import Conditions
from tests.chaos.history import FAIL, INVOKE, OK, History

HISTORY, WHO, MUTANT, CONDITIONS = "CHAOS_HISTORY", "CHAOS_WHO", "CHAOS_MUTANT", "CHAOS_CONDITIONS"
BATCHERS = "CHAOS_BATCHERS"
"""The names of the batchers that are at work, with commas between them."""
OUTAGE = "outage"
"""The name of a file beside the history. While it exists, every call of the processor fails."""
HURRY = "hurry"
"""The name of a file beside the history. When it exists, runs of batches need not be slow any more."""

Event = dict[str, str]
PLAIN, POISON, FLAKY, PARTIAL = "plain", "poison", "flaky", "partial"
_OUTCOME_OF = {True: OK, False: FAIL}

history = History(Path(os.environ.get(HISTORY, os.devnull)), os.environ.get(WHO, "nobody"))
conditions = Conditions.decode(os.environ.get(CONDITIONS, ""))
_outage = Path(os.environ.get(HISTORY, os.devnull)).with_name(OUTAGE)
_hurry = _outage.with_name(HURRY)


def new_event(event_id: str, dice: random.Random) -> Event:
    """A new event. Some events make their batch fail: always, at the first attempt, or then if alone.

    If batches are not retried, no event fails only at the first attempt: the events beside it would die.
    """
    if conditions.all_plain:
        return {"id": event_id, "kind": PLAIN}
    again = 2 if config.max_retries else 0
    kinds = (PLAIN, POISON, FLAKY, PARTIAL)
    return {"id": event_id, "kind": dice.choices(kinds, weights=(995, 1, again, again))[0]}


def process(batch: list[Event], info: BatchInfo) -> list[str]:
    ids = [event["id"] for event in batch]
    run(batch, info, events=ids)
    kinds = {event["kind"] for event in batch}
    if PARTIAL in kinds and info.attempt == 1:
        partial = {i: "not yet" for i, event in enumerate(batch) if event["kind"] == PARTIAL}
        done = [event_id for i, event_id in enumerate(ids) if i not in partial]
        raise PartialFailure(partial, result=done or None)
    return ids


def run(batch: list[Event], info: BatchInfo, **facts: Any) -> int:
    """Take some time, and note the run. Returns the number of this call. Raises if the whole batch fails."""
    call, since = history.new_call(), time.monotonic()
    history.note("run", INVOKE, call=call, batch=info.id, attempt=info.attempt, **facts)
    # Some runs are slow, so that faults find workers with a batch in hand.
    slow = random.uniform(0.5, 2.0) if random.random() < 0.08 else random.uniform(0.0, 0.02)
    time.sleep(slow + (0.0 if _hurry.exists() else conditions.run_seconds))
    error = _error({event["kind"] for event in batch}, info.attempt)
    history.note("run", _OUTCOME_OF[error is None], call=call, since=since, batch=info.id, **facts)
    if error is not None:
        raise error
    return call


def _error(kinds: set[str], attempt: int) -> Exception | None:
    """The error with which the whole batch fails, or None."""
    if _outage.exists():
        return ConnectionRefusedError("the database is away")
    if POISON in kinds or (FLAKY in kinds and attempt == 1):
        return ValueError("a poison event")
    return None


def handle(result: list[str], info: BatchInfo) -> None:
    _handle({"batch": info.id, "events": result, "dead": False})


def handle_failure(failure: BatchFailure) -> None:
    ids = [event["id"] for event in failure.events]
    _handle({"batch": failure.batch.id, "events": ids, "dead": True})


def _handle(facts: Mapping[str, Any]) -> None:
    call, since = history.new_call(), time.monotonic()
    history.note("handle", INVOKE, call=call, **facts)
    time.sleep(random.uniform(0.3, 1.0) if random.random() < 0.04 else random.uniform(0.03, 0.1))
    history.note("handle", OK, call=call, since=since, **facts)


config = conditions.config(batch_processor=process, result_handler=handle, failure_handler=handle_failure)
