"""The app of a chaos run: its events, what its processor does with them, and its handlers.

A processor's result is the list of the ids that it has processed, so a handler knows what it handles.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microbatch.producer import BatchFailure, BatchInfo, Config, PartialFailure
from tests.chaos.history import FAIL, INVOKE, OK, History

NAME = "chaos"
HISTORY, WHO, MUTANT = "CHAOS_HISTORY", "CHAOS_WHO", "CHAOS_MUTANT"

Event = dict[str, str]
PLAIN, POISON, FLAKY, PARTIAL = "plain", "poison", "flaky", "partial"
_OUTCOME_OF = {True: OK, False: FAIL}

history = History(Path(os.environ.get(HISTORY, os.devnull)), os.environ.get(WHO, "nobody"))


def new_event(event_id: str, dice: random.Random) -> Event:
    """An event; some make their batch fail: always, at the first attempt, or alone at the first attempt."""
    kinds = (PLAIN, POISON, FLAKY, PARTIAL)
    return {"id": event_id, "kind": dice.choices(kinds, weights=(995, 1, 2, 2))[0]}


def process(batch: list[Event], info: BatchInfo) -> list[str]:
    ids = [event["id"] for event in batch]
    call, since = history.new_call(), time.monotonic()
    history.note("run", INVOKE, call=call, batch=info.id, attempt=info.attempt, events=ids)
    # Now and then slow, so that faults find workers with a batch in hand.
    time.sleep(random.uniform(0.5, 2.0) if random.random() < 0.08 else random.uniform(0.0, 0.02))
    kinds = {event["kind"] for event in batch}
    failed = POISON in kinds or (FLAKY in kinds and info.attempt == 1)
    history.note("run", _OUTCOME_OF[not failed], call=call, since=since, batch=info.id)
    if failed:
        raise ValueError("a poison event")
    if PARTIAL in kinds and info.attempt == 1:
        partial = {i: "not yet" for i, event in enumerate(batch) if event["kind"] == PARTIAL}
        done = [event_id for i, event_id in enumerate(ids) if i not in partial]
        raise PartialFailure(partial, result=done or None)
    return ids


def handle(result: list[str], info: BatchInfo) -> None:
    _handle({"batch": info.id, "events": result, "dead": False})


def handle_failure(failure: BatchFailure) -> None:
    ids = [event["id"] for event in failure.events]
    _handle({"batch": failure.batch.id, "events": ids, "dead": True})


def _handle(facts: Mapping[str, Any]) -> None:
    call, since = history.new_call(), time.monotonic()
    history.note("handle", INVOKE, call=call, **facts)
    time.sleep(random.uniform(0.3, 1.0) if random.random() < 0.04 else random.uniform(0.0, 0.04))
    history.note("handle", OK, call=call, since=since, **facts)


config = Config(
    name=NAME,
    batch_processor=process,
    result_handler=handle,
    failure_handler=handle_failure,
    frequency=250,
    max_size=40,
    max_retries=2,
    retry_delay=0.3,
    claim_after=5,
    dedupe_window=120,
)
"""Where the server is comes from the environment, as for any app."""
