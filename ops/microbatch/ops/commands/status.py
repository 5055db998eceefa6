"""``microbatch status``: shows the status of a batcher, or of all batchers."""

from __future__ import annotations

import time
from collections.abc import Callable
from socket import gethostname

import click

from microbatch.broker.broker import Broker
from microbatch.ops import options
from microbatch.ops.commands.list import find_all, show_all
from microbatch.ops.health import not_here, problems
from microbatch.ops.status import Status, read_status
from microbatch.ops.target import reach
from microbatch.ops.views.status import render
from microbatch.ops.views.terminal import is_terminal, renew, say, say_json, screen, show

_EVERY_SECONDS = 1.0
_PROBLEMS = 1


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Show the status of a batcher.")
@click.argument("target", metavar="[TARGET]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@click.option("--watch", "-w", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--check", is_flag=True, help="Print the problems, and set the exit code.")
@click.option(
    "--role",
    type=click.Choice(["scheduler", "worker"]),
    help="With --check: only check that such a process of this host is there.",
)
@options.log_level
def command(target: str | None, *, as_json: bool, watch: bool, check: bool, role: str | None) -> int:
    """Show what waits, is in flight, done and dead, the active scheduler, and the workers.

    Without a TARGET it shows all batchers of the server, a line each, as `microbatch list` does.

    --check prints a line for each problem: no active scheduler, no worker, events that have waited for more
    than 10 seconds and 5 cycles, cutting that is held back, neglected results, dead batches. Exit code 0:
    there is no problem; 1: there is one; 2: the server could not be asked, or the name was never used. With
    --role it is the health check of a container: it looks for a scheduler (active or standing by) or a worker
    of this host, and for nothing else.

    \b
    The JSON has these fields, with ages in milliseconds (null if there is nothing to have an age):
      batcher, server, at
      waiting            {events, oldest_age_ms}
      in_flight          {events, batches, oldest_age_ms}
      done, dead         {events, batches}
      unhandled_results
      scheduler          {active, standby: [...]}, each as host:pid
      rates              {recorded_per_second, done_per_second}
      workers            [{name, state, batch, heartbeat_age_ms}]
      settings           {frequency, max_size, max_in_flight} of the active scheduler, or null; and, where
                         they are set, keep_dead (seconds), keep_dead_max, eager (1), and for a bound such as
                         2*workers max_in_flight_per_worker (2; max_in_flight is what the bound is now)
      held_back          why nothing is cut, or null
      neglected          which results wait while no consumer was seen for an hour, or null
      risks              [ways in which the server could lose events]
      problems           [the lines of --check], with --check
    Without a TARGET it is one line for each batcher, up to "scheduler".

    \b
    Examples:
      microbatch status letters
      microbatch status letters --watch
      microbatch status letters --check || alert
      microbatch status letters:config --check --role worker
      microbatch status letters --json | jq .waiting.events
    """
    if check and watch:
        raise click.UsageError("--check looks once: leave out --watch")
    if role and not (check and target):
        raise click.UsageError("--role is for --check with a TARGET")
    if target is None:
        return _all(as_json=as_json, watch=watch, check=check)
    broker = reach(target, unused="refused" if check else "told")
    if check:
        return _check([broker], as_json=as_json, role=role)
    if not watch:
        _show(read_status(broker), as_json=as_json)
    elif as_json or not is_terminal():
        _repeat(lambda: _show(read_status(broker), as_json=as_json))
    else:
        with screen(render(read_status(broker))) as live:
            _repeat(lambda: renew(live, render(read_status(broker))))
    return 0


def _all(*, as_json: bool, watch: bool, check: bool) -> int:
    brokers = find_all()
    if check:
        return _check(brokers, as_json=as_json)
    show_all(brokers, as_json=as_json)
    while watch:
        time.sleep(_EVERY_SECONDS)
        show_all(find_all(), as_json=as_json)
    return 0


def _check(brokers: list[Broker], *, as_json: bool, role: str | None = None) -> int:
    """Print the problems. Returns the exit code."""
    code = 0
    for broker in brokers:
        status = read_status(broker)
        found = list(not_here(status, role, gethostname()) if role else problems(status))
        if as_json:
            say_json({**status.as_json(), "problems": found})
        for problem in [] if as_json else found or ["all is well"]:
            say(f"{status.batcher}: {problem}")
        code = _PROBLEMS if found else code
    return code


def _show(status: Status, *, as_json: bool) -> None:
    if as_json:
        say_json(status.as_json())
    else:
        show(render(status))


def _repeat(step: Callable[[], None]) -> None:
    while True:
        step()
        time.sleep(_EVERY_SECONDS)
