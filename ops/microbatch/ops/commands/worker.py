"""``microbatch worker``: runs the processes that run batches."""

from __future__ import annotations

import logging

import click

# Each process imports this before the app. So an app with the name of such a module is refused here, once.
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
    "manager kills processes.",
)
@options.no_wait
@options.log_level
def command(app: str, *, concurrency: int, grace: float, wait: float | None) -> None:
    """Run the batches of one batcher, until SIGTERM, SIGHUP or Ctrl-C.

    A process that dies is replaced, and its batch is run elsewhere. After the first signal, each process
    finishes the batch in hand. When the grace is over, or at a second signal, the processes are killed and
    their batches are given back: they are run elsewhere at once, and this does not count as an attempt.

    \b
    Examples:
      microbatch worker letters:config
      microbatch worker letters.py --concurrency 8 --grace 80
    """
    pool = WorkerPool(app, concurrency, grace)  # before the app is imported: it forks the fork server
    config = load_config(app)
    where = check_runnable(config, wait=wait)
    log.info("%s: running batches, %d at once, at %s", config.name, concurrency, where)
    pool.run()
