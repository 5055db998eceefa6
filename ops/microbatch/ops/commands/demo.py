"""``microbatch demo``: shows what Microbatch does, in five seconds."""

from __future__ import annotations

import click
from rich.console import Console

from microbatch.ops import letters, options
from microbatch.ops.demo import Demo
from microbatch.ops.local.stack import Stack
from microbatch.ops.termination import terminable
from microbatch.ops.views.demo import DemoView

_APP = f"{letters.__name__}:config"


@click.command(
    context_settings=options.CONTEXT_SETTINGS, short_help="Show what it does: eight letters, five seconds."
)
@options.log_level
def command() -> int:
    """Show what Microbatch does: eight letters on a schedule of five seconds, added up in batches of two.

    All parts are real: a Valkey server, a scheduler, two workers, and this process as producer and consumer.
    It needs no settings and leaves nothing behind. The exit code is 0 only if the result is as expected.

    \b
    Example:
      microbatch demo
    """
    view = DemoView(Console())
    view.starting()
    # Always with a server of its own, even if redis_url is set.
    config = letters.config.model_copy(update={"redis_url": None})
    with terminable(), Stack(_APP, config, workers=2) as stack:
        view.started(config)
        differences = Demo(stack.config, view).run(stack.count)
    view.failed(differences)
    return 1 if differences else 0
