"""``microbatch worker``: the processes that run batches."""

from __future__ import annotations

import logging

import click

# What each process imports before the app: an app with the name of one of these is refused here, once.
import microbatch.worker.process  # noqa: F401
from microbatch.broker.app.loading import load_config
from microbatch.broker.policy.timing import Timing
from microbatch.ops import options
from microbatch.ops.checks import check_runnable
from microbatch.worker.pool import WorkerPool

log = logging.getLogger(__name__)


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
    default=Timing.grace_seconds,
    show_default=True,
    metavar="SECONDS",
    help="How long a stop waits for the batches in hand. Set it below the time after which your process "
    "manager kills.",
)
@options.no_wait
@options.log_level
def command(app: str, *, concurrency: int, grace: float, wait: float | None) -> None:
    """Run the batches of one batcher, until SIGTERM, SIGHUP or Ctrl-C.

    A process that dies is replaced, and its batch is run elsewhere. The first signal lets each process finish
    the batch in hand. When the grace is over, or at a second signal, the processes are killed and their
    batches are given back: they are run elsewhere at once, and it counts as no attempt.

    \b
    Examples:
      microbatch worker letters:config
      microbatch worker letters.py --concurrency 8 --grace 80
    """
    pool = WorkerPool(app, concurrency, grace)  # first: see there
    config = load_config(app)
    where = check_runnable(config, wait=wait)
    log.info("%s: running batches, %d at once, at %s", config.name, concurrency, where)
    pool.run()
