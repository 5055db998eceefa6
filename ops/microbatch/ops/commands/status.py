"""``microbatch status``: where a batcher stands."""

from __future__ import annotations

import time
from collections.abc import Callable

import click
from rich.console import Console
from rich.live import Live

from microbatch.broker.broker import Broker
from microbatch.ops import options
from microbatch.ops.json_lines import json_line
from microbatch.ops.status import Status, read_status
from microbatch.ops.status_view import render
from microbatch.ops.target import load_target

_EVERY_SECONDS = 1.0


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Show where a batcher stands.")
@options.target
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.option("--watch", "-w", is_flag=True, help="Show it anew every second, until Ctrl-C.")
@options.log_level
def command(target: str, *, as_json: bool, watch: bool) -> None:
    """Show what waits, is in flight, done and dead, who is the active scheduler, and the workers.

    \b
    The JSON has, ages in milliseconds (null if there is nothing that has one):
      batcher, server, at
      waiting            {events, oldest_age_ms}
      in_flight          {events, batches, oldest_age_ms}
      done, dead         {events, batches}
      unhandled_results
      rates              {recorded_per_second, done_per_second}
      scheduler          {active, standby: [...]}, each as host:pid
      workers            [{name, state, batch, heartbeat_age_ms}]
      settings           {frequency, max_size, max_in_flight} of the active scheduler, and keep_dead
                         (seconds) and keep_dead_max where they are set, or null
      held_back          why nothing is cut, or null
      neglected          that results wait and no consumer was seen for an hour, or null
      risks              [in what ways the server could lose events]

    \b
    Examples:
      microbatch status letters
      microbatch status letters --watch
      microbatch status letters --json | jq .waiting.events
    """
    broker = Broker(load_target(target))
    broker.server.check_version()
    if not watch:
        _show(read_status(broker), as_json=as_json)
    elif as_json or not Console().is_terminal:
        _repeat(lambda: _show(read_status(broker), as_json=as_json))
    else:
        with Live(render(read_status(broker)), screen=True, auto_refresh=False) as live:
            _repeat(lambda: live.update(render(read_status(broker)), refresh=True))


def _show(status: Status, *, as_json: bool) -> None:
    if as_json:
        click.echo(json_line(status.as_json()))
    else:
        Console(soft_wrap=True).print(render(status))


def _repeat(step: Callable[[], None]) -> None:
    while True:
        step()
        time.sleep(_EVERY_SECONDS)
