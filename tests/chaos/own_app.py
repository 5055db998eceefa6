"""The second app of a chaos run: its processor returns one result per event, to clients that submit.

The result of an event names it and the run that returned it. So the checker sees whose result a future has.
"""

from __future__ import annotations

import os
import random

from microbatch.producer import BatchInfo
from tests.chaos import app
from tests.chaos.app import PARTIAL, Event
from tests.chaos.conditions import OWN_NAME


def new_event(event_id: str, dice: random.Random) -> Event:
    """A new event. Of these few events, more than of the other app's fail."""
    if app.conditions.all_plain:
        return {"id": event_id, "kind": app.PLAIN}
    kinds = (app.PLAIN, app.POISON, app.FLAKY, PARTIAL)
    return {"id": event_id, "kind": dice.choices(kinds, weights=(97, 1, 1, 1))[0]}


def process(batch: list[Event], info: BatchInfo) -> list[list[str] | ValueError]:
    failed = {event["id"] for event in batch if event["kind"] == PARTIAL and info.attempt == 1}
    ids = [event["id"] for event in batch]
    returned = [event_id for event_id in ids if event_id not in failed]
    call = app.run(batch, info, batcher=OWN_NAME, given=ids, returned=returned)
    return [ValueError("not yet") if i in failed else [i, run_name(os.getpid(), call)] for i in ids]


def run_name(pid: int, call: int) -> str:
    """The name of a run: that of the call of the processor."""
    return f"{pid}.{call}"


config = app.conditions.own_config(batch_processor=process)
