"""``microbatch demo``: eight letters, five seconds."""

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

    All of it is real: a Valkey server, a scheduler, two workers, this process as producer and consumer. It
    needs nothing to be set, and leaves nothing behind. Ends with 0 only if the result is what it should be.

    \b
    Example:
      microbatch demo
    """
    view = DemoView(Console())
    view.starting()
    # Always on a server of its own, whatever is set.
    config = letters.config.model_copy(update={"redis_url": None})
    with terminable(), Stack(_APP, config, workers=2) as stack:
        view.started(config)
        differences = Demo(stack.config, view).run(stack.count)
    view.failed(differences)
    return 1 if differences else 0
