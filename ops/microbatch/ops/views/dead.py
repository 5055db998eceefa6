"""Shows dead batches as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from rich.table import Table
from rich.text import Text

from microbatch.broker.state.dead import DeadBatch
from microbatch.broker.wire.batch import moment
from microbatch.ops.views.json_lines import json_line

_SHORTEST_ID = 8
_LABEL = 10


def render(batches: Sequence[DeadBatch], *, short_ids: bool) -> Table:
    """A table with a line for each batch, or more lines if its error is long."""
    table = Table(box=None, pad_edge=False)
    for column in ("batch", "died", "events", "attempts"):
        table.add_column(column, no_wrap=True)
    table.add_column("error", overflow="fold")
    ids = [batch.id for batch in batches]
    shown = beginnings(ids) if short_ids else ids
    for batch_id, batch in zip(shown, batches, strict=True):
        table.add_row(
            batch_id, _time(moment(batch.died_at_ms)), f"{batch.header.size:,}",
            f"{batch.failure.attempts:,}", Text(batch.failure.error),  # Text: its brackets are not markup
        )  # fmt: skip
    return table


def beginnings(ids: Sequence[str]) -> list[str]:
    """The shortest unique beginning of each id, of at least eight characters. The ids must differ."""
    shown = dict.fromkeys(ids, "")
    ordered = sorted(ids)
    for i, batch_id in enumerate(ordered):
        others = ordered[max(0, i - 1) : i] + ordered[i + 1 : i + 2]
        same = max((_same(batch_id, other) for other in others), default=0)
        shown[batch_id] = batch_id[: max(_SHORTEST_ID, same + 1)]
    return [shown[batch_id] for batch_id in ids]


def _same(one: str, other: str) -> int:
    """The length of their common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def paragraphs(whole: dict[str, Any]) -> Iterator[str]:
    """The lines about one dead batch, given as `whole_as_json` makes it."""
    cut = f"{whole['size']:,}, cut by {whole['trigger']} at {_time(whole['cut_at'])}"
    about = {
        "batch": whole["batch"],
        "part of": whole["parent"],
        "died": f"{_time(whole['died_at'])}, after {whole['attempts']:,} attempts",
        "events": cut,
        "error": whole["error"],
    }
    for label, text in about.items():
        if text is not None:
            yield from _labelled(label, str(text).split("\n"))
    yield from _labelled("traceback", (whole["traceback"].rstrip("\n") or "none").split("\n"))
    for event in whole["events"]:
        yield from _labelled("event", [json_line(event).decode()])


def _labelled(label: str, lines: Iterable[str]) -> Iterator[str]:
    """The lines, indented, with the label before the first one. So no text looks like a label."""
    for line in lines:
        yield f"{label:<{_LABEL}}{line}"
        label = ""


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
