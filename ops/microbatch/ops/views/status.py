"""Shows the status as text."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from microbatch.broker.app.durations import duration_text
from microbatch.broker.policy.in_flight_bound import InFlightBound
from microbatch.ops.status import Status, schedulers

_WORKERS_SHOWN = 20


def render(status: Status) -> RenderableType:
    """The status of a batcher, for a terminal."""
    return Group(_title(status), Text(), _ledger(status), Text(), *_roles(status))


def _title(status: Status) -> Text:
    settings = "no scheduler has run yet"
    if {"frequency", "max_size"} <= status.settings.keys():
        settings = "cut every {frequency:,} ms and at {max_size:,} events".format(**status.settings)
        if "eager" in status.settings:
            settings = settings.replace("cut", "cut when a worker is free,", 1)
    if most := status.settings.get("max_in_flight"):
        settings += f", at most {most:,} batch{'' if most == 1 else 'es'} with a job"
    if per_worker := status.settings.get("max_in_flight_per_worker"):
        settings += f" ({InFlightBound(per_worker, per_worker=True)})"
    return Text.assemble((status.batcher, "bold"), f" on {status.server}, ", (settings, "dim"))


def _ledger(status: Status) -> Table:
    count, counters = status.count, status.count.counters
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("events", "batches", "oldest"):
        table.add_column(name, justify="right", header_style="dim", min_width=9)
    table.add_row("waiting", f"{count.waiting_events:,}", "", age_text(status.oldest_waiting_age_ms))
    in_flight = (f"{count.account.in_flight:,}", f"{count.in_flight_batches:,}")
    table.add_row("in flight", *in_flight, age_text(status.oldest_in_flight_age_ms))
    table.add_row("done", f"{counters.done_events:,}", f"{counters.done_batches:,}", style="green")
    dead_style = "bold red" if counters.dead_batches_now else ""
    table.add_row("dead", f"{counters.dead_events_now:,}", f"{counters.dead_batches_now:,}", style=dead_style)
    if counters.expired_events:
        table.add_row("expired", f"{counters.expired_events:,}", "")
    table.add_row("results to handle", "", f"{count.unhandled:,}")
    return table


def _roles(status: Status) -> list[RenderableType]:
    found = schedulers(status.count)
    active = (found["active"], "green") if found["active"] is not None else ("none", "bold red")
    standbys = ", ".join(found["standby"]) or "none"
    lines: list[RenderableType] = [
        Text.assemble(
            ("events/s   ", "bold"), f"{status.rates.recorded:,.1f} recorded, {status.rates.done:,.1f} done"
        ),
        Text.assemble(("scheduler  ", "bold"), active, (", standing by: ", "dim"), standbys),
    ]
    lines.append(Text.assemble(("dead       ", "bold"), f"kept {_kept(status)}"))
    if status.held_back:
        lines.append(Text.assemble(("held back  ", "bold"), (status.held_back, "yellow")))
    if status.neglect is not None:
        lines.append(Text.assemble(("neglected  ", "bold"), (str(status.neglect), "yellow")))
    lines += [Text.assemble(("risk       ", "bold"), (risk, "yellow")) for risk in status.risks]
    if not status.workers:
        return [*lines, Text.assemble(("workers    ", "bold"), ("none", "bold red"))]
    table = Table(box=None, pad_edge=False)
    for name in ("worker", "state", "batch", "last seen"):
        table.add_column(name, header_style="dim" if name != "worker" else "bold")
    for worker in status.workers[:_WORKERS_SHOWN]:
        style = "yellow" if worker.state == "busy" else ""
        seen = age_text(status.heartbeat_age_ms(worker))
        cells = Text(worker.name), Text(worker.state, style), Text(worker.batch or "")  # not markup
        table.add_row(*cells, seen and f"{seen} ago")
    lines.append(table)
    if len(status.workers) > _WORKERS_SHOWN:
        lines.append(Text(f"and {len(status.workers) - _WORKERS_SHOWN} more workers", style="dim"))
    return lines


def _kept(status: Status) -> str:
    """How long dead batches are kept, and how many."""
    age, most = (status.settings.get(name) for name in ("keep_dead", "keep_dead_max"))
    bounds = [] if age is None else [f"for {duration_text(age)}"]
    bounds += [] if most is None else [f"{most:,} batches at most"]
    return ", ".join(bounds) or "for ever"


def age_text(age_ms: int | None) -> str:
    """An age for a person; empty if there is none."""
    if age_ms is None:
        return ""
    seconds = age_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 90 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"
