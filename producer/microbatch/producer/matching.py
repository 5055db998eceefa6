"""Matching: puts rows that come in any order to the events that asked for them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

Key = str | int | Callable[[Any], Hashable]
"""How the key of an event or a row is found: the name of a field or attribute, a position, or a function."""


def match(
    events: Sequence[Any], rows: Iterable[Any], *, key: Key, row_key: Key | None = None
) -> dict[int, Any]:
    """The row of each event, by the event's position: what a processor with ``per_event`` returns.

    A database returns rows in its own order, and none for what it does not find. Never return such rows as a
    list: an event would get the row of another. An event without a row is left out, and fails alone. If
    several events have one key, each gets the row. If several rows have one key, the last one counts.

        def process(ids: list[int]) -> dict[int, Any]:
            rows = db.execute("SELECT id, name FROM users WHERE id = ANY(%s)", [ids]).fetchall()
            return match(ids, rows, key=lambda id: id, row_key=0)

    Args:
        events: the batch.
        rows: what was found, in any order.
        key: how an event's key is found: the name of a mapping's item or of an attribute, the position of an
            item in a sequence, or a function.
        row_key: the same for a row; ``key`` if it is not given.

    Raises:
        KeyError, AttributeError, IndexError: an event or a row has no such key.
        TypeError: a key is not hashable.
    """
    of_event, of_row = _getter(key), _getter(key if row_key is None else row_key)
    found = {of_row(row): row for row in rows}
    return {position: found[k] for position, event in enumerate(events) if (k := of_event(event)) in found}


def _getter(key: Key) -> Callable[[Any], Hashable]:
    if callable(key):
        return key

    def get(value: Any) -> Hashable:
        if isinstance(value, Mapping) or isinstance(key, int):
            item: Hashable = value[key]
            return item
        attribute: Hashable = getattr(value, key)
        return attribute

    return get
