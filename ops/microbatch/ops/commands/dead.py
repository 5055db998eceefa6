"""``microbatch dead``: the batches that were given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from microbatch.broker.batch import moment
from microbatch.broker.broker import Broker
from microbatch.broker.dead import DeadBatch
from microbatch.broker.events import Wake
from microbatch.ops import options, rq_facts
from microbatch.ops.bar import progress_bar
from microbatch.ops.dead import as_json, choose, plain, whole_as_json
from microbatch.ops.json_lines import json_line
from microbatch.ops.target import reach

_ids = click.argument("ids", nargs=-1, metavar="[BATCH]...")
_error = click.option("--error", metavar="TEXT", help="Those with this text in their error.")
_all = click.option("--all", "everything", is_flag=True, help="All of them.")
_WIDE = 200  # columns
_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_json = click.option("--json", "in_json", is_flag=True, help="One line of JSON for each.")


def _chosen(function: options.F) -> options.F:
    """A batcher and some of its dead: ``TARGET``, ``BATCH``, ``--error`` and ``--all``."""
    return options.target(_ids(_error(_all(function))))


@click.group(context_settings=options.CONTEXT_SETTINGS, short_help="See to dead batches.")
def command() -> None:
    """See to the batches that were given up. Their events are kept until they are replayed or purged.

    BATCH is a batch's id, or the beginning of one.

    \b
    Examples:
      microbatch dead list letters
      microbatch dead show letters 6f6e
      microbatch dead replay letters --error "connection refused"
      microbatch dead purge letters --all --dry-run
    """


@command.command("list", context_settings=options.CONTEXT_SETTINGS)
@options.target
@_error
@_json
@options.log_level
def list_(target: str, *, error: str | None, in_json: bool) -> None:
    """List the dead batches, first died first."""
    broker = reach(target, unused="told")
    dead = choose(broker, (), error=error, everything=error is None)
    if in_json:
        for batch in dead:
            click.echo(json_line(as_json(batch)))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("batch", "died", "events", "attempts", "error"):
        table.add_column(column, no_wrap=column != "error")
    for batch in dead:
        died = moment(batch.died_at_ms).strftime("%Y-%m-%d %H:%M:%SZ")
        error_text = Text(plain(batch.failure.error))  # not markup, whatever brackets it has
        table.add_row(batch.id, died, str(batch.header.size), str(batch.failure.attempts), error_text)
    Console(width=max(Console().width, _WIDE)).print(table)  # ids and errors whole, if on several lines


@command.command("show", context_settings=options.CONTEXT_SETTINGS)
@_chosen
@_json
@options.log_level
def show(target: str, ids: Sequence[str], *, error: str | None, everything: bool, in_json: bool) -> None:
    """Show dead batches with their traceback and their events."""
    broker = reach(target, unused="told")
    for batch in choose(broker, ids, error=error, everything=everything):
        whole = whole_as_json(broker, batch)
        if in_json:
            click.echo(json_line(whole))
            continue
        for name in ("batch", "died_at", "size", "trigger", "cut_at", "parent", "attempts", "error"):
            click.echo(f"{name:<9} {plain(str(whole[name]))}")
        click.echo(plain(whole["traceback"]) or "no traceback\n", nl=False)
        for event in whole["events"]:
            click.echo(json_line(event))
        click.echo()


@command.command("replay", context_settings=options.CONTEXT_SETTINGS)
@_chosen
@_dry_run
@options.log_level
def replay(target: str, ids: Sequence[str], *, error: str | None, everything: bool, dry_run: bool) -> None:
    """Put the events of dead batches back among those that wait. They are cut and tried as if new."""
    broker = reach(target, unused="refused")
    chosen = choose(broker, ids, error=error, everything=everything)
    count = _each(broker, "replay", chosen, lambda batch: broker.dead.replay(batch.id)[0], dry_run=dry_run)
    if count and not dry_run:
        broker.events.wake(Wake.SIZE)


@command.command("purge", context_settings=options.CONTEXT_SETTINGS)
@_chosen
@_dry_run
@options.log_level
def purge(target: str, ids: Sequence[str], *, error: str | None, everything: bool, dry_run: bool) -> None:
    """Throw dead batches away, with their events."""
    broker = reach(target, unused="refused")
    chosen = choose(broker, ids, error=error, everything=everything)
    _each(broker, "purge", chosen, lambda batch: broker.dead.purge(batch.id), dry_run=dry_run)


def _each(
    broker: Broker, verb: str, batches: Sequence[DeadBatch], act: Callable[[DeadBatch], int], *, dry_run: bool
) -> int:
    """Do it to each batch, with a progress bar, and say how many events it was. Returns that."""
    events, done = 0, 0
    with progress_bar(verb, len(batches)) as advance:
        for batch in batches:
            count = batch.header.size if dry_run else act(batch)
            if count and not dry_run:
                rq_facts.forget_job(broker, batch.id.encode())
            events += count
            done += count > 0
            advance(1)
    would = "would " if dry_run else ""
    batches_text = "1 batch" if done == 1 else f"{done:,} batches"
    events_text = "1 event" if events == 1 else f"{events:,} events"
    click.echo(f"{would}{verb}: {batches_text}, {events_text}", err=True)
    return events
