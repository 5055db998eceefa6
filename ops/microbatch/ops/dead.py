"""Selects dead batches, and reads them for display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from microbatch.broker.broker import Broker
from microbatch.broker.errors import DecodeError, MicrobatchError
from microbatch.broker.state.dead import DeadBatch
from microbatch.broker.wire.batch import moment
from microbatch.broker.wire.event import event_body


class NoneChosen(MicrobatchError):
    """The arguments do not select dead batches."""


def choose(broker: Broker, ids: Sequence[str], *, error: str | None, everything: bool) -> list[DeadBatch]:
    """The dead batches with these ids or beginnings of ids, or with this text in their error, or all.

    Raises:
        NoneChosen: none or several of the three criteria are given, an argument is empty, or an id does not
            match exactly one dead batch.
    """
    if bool(ids) + (error is not None) + everything > 1:
        raise NoneChosen(
            "which? name batches by their ids, or use --error TEXT, or --all, but only one of these"
        )
    if error == "" or "" in ids:
        raise NoneChosen("an empty text would choose all; use --all for that")
    dead = list(broker.dead)
    if everything:
        return dead
    if error is not None:
        return [batch for batch in dead if error.casefold() in batch.failure.error.casefold()]
    if not ids:
        raise NoneChosen("which? name batches by their ids, or use --error TEXT, or --all")
    chosen = []
    for batch_id in ids:
        found = [batch for batch in dead if batch.id.startswith(batch_id)]
        if len(found) != 1:
            what = (
                f"{len(found)} dead batches have ids that begin with" if found else "there is no dead batch"
            )
            raise NoneChosen(f"{what} {batch_id!r}; `microbatch dead list {broker.config.name}` shows them")
        chosen += found
    return chosen


def as_json(batch: DeadBatch) -> dict[str, Any]:
    """A dead batch without its events, as `microbatch dead list --json` prints it."""
    return {
        "batch": batch.id,
        "died_at": moment(batch.died_at_ms),
        "size": batch.header.size,
        "trigger": batch.header.trigger,
        "cut_at": moment(batch.header.cut_at_ms),
        "parent": batch.header.parent or None,
        "attempts": batch.failure.attempts,
        "error": batch.failure.error,
    }


def whole_as_json(broker: Broker, batch: DeadBatch) -> dict[str, Any]:
    """A dead batch with its traceback and its events, as `microbatch dead show --json` prints it."""
    events = [_event(raw) for raw in broker.dead.events(batch.id)]
    return {**as_json(batch), "traceback": batch.failure.traceback, "events": events}


def _event(raw: bytes) -> Any:
    try:
        return from_json(event_body(raw))
    except (DecodeError, ValueError):  # perhaps what the batch died of, so the event is shown as it is
        return raw.decode("utf-8", "backslashreplace")
