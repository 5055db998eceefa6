"""``microbatch list``: lists all batchers of the server."""

from __future__ import annotations

from collections.abc import Sequence

import click

from microbatch.broker.broker import Broker
from microbatch.broker.transport.server import Server
from microbatch.ops import options
from microbatch.ops.views.bar import progress_bar
from microbatch.ops.views.overview import any_config, brokers_of_all, look_at, render_all
from microbatch.ops.views.terminal import say, say_json, show_table


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="List all batchers of the server.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")
@options.log_level
def command(*, as_json: bool) -> None:
    """List all batchers of the server at MICROBATCH_REDIS_URL, whose keys begin with MICROBATCH_KEY_PREFIX.

    For each batcher it shows how many events wait and how old the oldest is, how many batches are in flight
    and dead, how many results wait for a handler, and the active scheduler. `microbatch status NAME` shows
    one batcher in full.

    It reads the name of every key of the server, in steps of 2,000.

    \b
    Examples:
      microbatch list
      microbatch list --json | jq -r .batcher
    """
    show_all(find_all(), as_json=as_json)


def find_all() -> list[Broker]:
    """All batchers of the server, with a progress bar. Raises ConfigError and ServerError."""
    config = any_config()
    server = Server.at(config.required_url())
    server.check_version()
    with progress_bar("list", None) as advance:
        found = brokers_of_all(server, config.key_prefix, lambda: advance(1))
    if not found:
        say(
            f"microbatch: warning: there is no batcher at {server.where} with the key prefix "
            f"{config.key_prefix!r}",
            err=True,
        )
    return found


def show_all(brokers: Sequence[Broker], *, as_json: bool) -> None:
    """Print a line for each batcher. Raises ServerError."""
    batchers = [look_at(broker) for broker in brokers]
    if as_json:
        for batcher in batchers:
            say_json(batcher.as_json())
    elif batchers:
        show_table(render_all(batchers))
