"""``microbatch up``: runs the local stack without a program."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path

import click

from microbatch.broker.app.loading import load_config
from microbatch.broker.transport.url import safe_url
from microbatch.ops import options
from microbatch.ops.local.stack import URL_VARIABLE, Stack
from microbatch.ops.termination import Terminated, terminable
from microbatch.ops.views.terminal import say

_LOOK_SECONDS = 0.2


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Run a server, a scheduler and workers.")
@options.app
@options.workers
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the server's data there. Without this they are gone when the server ends.",
)
@options.log_level
def command(app: str, workers: int, data_dir: Path | None) -> None:
    """Run a server, a scheduler and workers for an app, until Ctrl-C or SIGTERM.

    It prints what to set in another shell to reach the server. If redis_url is set, for example by
    MICROBATCH_REDIS_URL, that server is used and none is started.

    \b
    Examples:
      microbatch up letters.py
      microbatch up letters.py --workers 4 --data-dir ./data
    """
    config = load_config(app)
    if config.redis_url is not None and data_dir is not None:
        raise click.UsageError(
            f"--data-dir is for a server of its own, but redis_url is set ({safe_url(config.redis_url)})"
        )
    try:
        with terminable(), Stack(app, config, workers=workers, data_dir=data_dir) as stack:
            _tell(stack, workers)
            never = threading.Event()
            while not never.wait(_LOOK_SECONDS):
                stack.check()
    except Terminated:
        return  # a signal asked for the end


def _tell(stack: Stack, workers: int) -> None:
    name, server = stack.config.name, stack.server
    running = "a worker" if workers == 1 else f"{workers} workers"
    say(f"{name} is up: a scheduler and {running}. Ctrl-C ends them.", err=True)
    if server is None:
        say(f"They use {safe_url(stack.config.required_url())}, as redis_url is set.", err=True)
        return
    say("In another shell:", err=True)
    say(f"  export {URL_VARIABLE}={shlex.quote(server.url)}")
    say(f"  microbatch status {name}", err=True)
