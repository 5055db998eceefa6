"""``microbatch worker``: the processes that run batches."""

from __future__ import annotations

import click

from microbatch.broker.app import load_config
from microbatch.ops import options
from microbatch.ops.checks import check_runnable
from microbatch.worker.pool import WorkerPool


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Run the batches of one batcher.")
@options.app
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="How many batches to run at once, each in a process of its own.",
)
@options.log_level
def command(app: str, concurrency: int) -> None:
    """Run the batches of one batcher, until SIGTERM or Ctrl-C.

    A process that dies is replaced, and its batch is run elsewhere. The first SIGTERM lets each process
    finish the batch in hand; a second one stops them at once.

    \b
    Examples:
      microbatch worker letters:config
      microbatch worker letters.py --concurrency 8
    """
    check_runnable(load_config(app))
    WorkerPool(app, concurrency).run()
