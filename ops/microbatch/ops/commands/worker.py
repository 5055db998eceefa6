"""``microbatch worker``: the processes that run batches."""

from __future__ import annotations

import click

from microbatch.broker.app import load_config
from microbatch.ops import options
from microbatch.ops.checks import check_runnable
from microbatch.worker.pool import GRACE_SECONDS, WorkerPool


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
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=GRACE_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long a stop waits for the batches in hand. Set it below the time after which your process "
    "manager kills.",
)
@options.log_level
def command(app: str, concurrency: int, grace: float) -> None:
    """Run the batches of one batcher, until SIGTERM, SIGHUP or Ctrl-C.

    A process that dies is replaced, and its batch is run elsewhere. The first signal lets each process finish
    the batch in hand. When the grace is over, or at a second signal, the processes are killed and their
    batches are given back: they are run elsewhere at once, and it counts as no attempt.

    \b
    Examples:
      microbatch worker letters:config
      microbatch worker letters.py --concurrency 8 --grace 80
    """
    check_runnable(load_config(app))
    WorkerPool(app, concurrency, grace).run()
