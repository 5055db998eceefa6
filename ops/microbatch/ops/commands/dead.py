"""``microbatch dead``: shows, replays and purges dead batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from microbatch.broker.broker import Broker
from microbatch.broker.state.dead import DeadBatch
from microbatch.broker.state.wake import Wake
from microbatch.ops import options, rq_facts
from microbatch.ops.dead import as_json, choose, whole_as_json
from microbatch.ops.target import reach
from microbatch.ops.views.bar import progress_bar
from microbatch.ops.views.dead import paragraphs, render
from microbatch.ops.views.terminal import is_terminal, say, say_json, show_table

_ids = click.argument("ids", nargs=-1, metavar="[BATCH]...")
_error = click.option("--error", metavar="TEXT", help="The batches with this text in their error.")
_all = click.option("--all", "everything", is_flag=True, help="All dead batches.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_json = click.option("--json", "in_json", is_flag=True, help="Print one line of JSON for each.")


def _chosen(function: options.F) -> options.F:
    """A batcher and some of its dead batches: ``TARGET``, ``BATCH``, ``--error`` and ``--all``."""
    return options.target(_ids(_error(_all(function))))


@click.group(context_settings=options.CONTEXT_SETTINGS, short_help="Show, replay or purge dead batches.")
def command() -> None:
    """Show, replay or purge dead batches.

    Their events are kept until they are replayed or purged, unless keep_dead or keep_dead_max are set.

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
    """List the dead batches, oldest death first."""
    broker = reach(target, unused="told")
    dead = choose(broker, (), error=error, everything=error is None)
    if in_json:
        for batch in dead:
            say_json(as_json(batch))
    else:
        show_table(render(dead, short_ids=is_terminal()))


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
            say_json(whole)
            continue
        for line in paragraphs(whole):
            say(line)
        say()


@command.command("replay", context_settings=options.CONTEXT_SETTINGS)
@_chosen
@_dry_run
@options.log_level
def replay(target: str, ids: Sequence[str], *, error: str | None, everything: bool, dry_run: bool) -> None:
    """Put the events of dead batches back among the waiting events. They are cut and tried as if new."""
    broker = reach(target, unused="refused")
    chosen = choose(broker, ids, error=error, everything=everything)
    count = _each(broker, "replay", chosen, lambda batch: broker.dead.replay(batch.id)[0], dry_run=dry_run)
    if count and not dry_run:
        broker.wake.tell(Wake.SIZE)


@command.command("purge", context_settings=options.CONTEXT_SETTINGS)
@_chosen
@_dry_run
@options.log_level
def purge(target: str, ids: Sequence[str], *, error: str | None, everything: bool, dry_run: bool) -> None:
    """Delete dead batches with their events."""
    broker = reach(target, unused="refused")
    chosen = choose(broker, ids, error=error, everything=everything)
    _each(broker, "purge", chosen, lambda batch: broker.dead.purge(batch.id), dry_run=dry_run)


def _each(
    broker: Broker, verb: str, batches: Sequence[DeadBatch], act: Callable[[DeadBatch], int], *, dry_run: bool
) -> int:
    """Call ``act`` for each batch, with a progress bar. Says and returns how many events that concerned."""
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
    say(f"{would}{verb}: {batches_text}, {events_text}", err=True)
    return events
