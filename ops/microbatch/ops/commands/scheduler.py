"""``microbatch scheduler``: runs the process that cuts batches."""

from __future__ import annotations

from collections import Counter

import click

from microbatch.broker.app.loading import load_config
from microbatch.broker.errors import AppError
from microbatch.ops import options
from microbatch.scheduler.service import SchedulerService


@click.command(
    context_settings=options.CONTEXT_SETTINGS, short_help="Cut the batches of one or more batchers."
)
@click.argument("apps", metavar="APP...", nargs=-1, required=True)
@options.no_wait
@options.log_level
def command(apps: tuple[str, ...], wait: float | None) -> int:
    """Cut the batches of one or more batchers, until SIGTERM, SIGHUP or Ctrl-C.

    Start it on several hosts: one is active, and the others stand by and take over when it ends. SIGTERM
    hands over at once. The exit code is 1 if a scheduler failed for a reason that does not pass by waiting.

    \b
    Examples:
      microbatch scheduler letters:config
      microbatch scheduler letters:config access_log:config     two batchers in one process
    """
    configs = [load_config(app) for app in apps]
    twice = [name for name, count in Counter(config.name for config in configs).items() if count > 1]
    if twice:
        raise AppError(f"two of these apps are of the batcher {twice[0]!r}: name each batcher once")
    service = SchedulerService(configs)
    service.check(wait=wait)
    return 0 if service.run() else 1
