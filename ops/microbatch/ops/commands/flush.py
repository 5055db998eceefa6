"""``microbatch flush``: cuts waiting events before their tick."""

from __future__ import annotations

import click

from microbatch.broker.inspect.snapshot import take_snapshot
from microbatch.broker.state.wake import Wake
from microbatch.ops import options
from microbatch.ops.target import reach
from microbatch.ops.views.terminal import say


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Cut all waiting events now.")
@options.target
@options.log_level
def command(target: str) -> None:
    """Tell the scheduler to cut all waiting events now, instead of at the next tick.

    \b
    Example:
      microbatch flush letters
    """
    broker = reach(target, unused="refused")
    found = take_snapshot(broker)
    broker.wake.tell(Wake.FLUSH)
    say(f"flush: {found.waiting_events:,} events waited")
    if found.active is None:
        say(
            "microbatch flush: no scheduler is active; what waits is cut when one starts: "
            f"microbatch scheduler {target if target != broker.config.name else 'APP'}",
            err=True,
        )
    broker.close()
