"""``microbatch dashboard``: rq-dashboard on the batcher's server."""

from __future__ import annotations

import click

from microbatch.broker.errors import ConfigError
from microbatch.ops import options
from microbatch.ops.extras import how_to_install
from microbatch.ops.target import reach
from microbatch.ops.views.terminal import say


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Serve rq-dashboard.")
@options.target
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9181,
    show_default=True,
    help="The port to listen on; 0 for a free one.",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A further host name that browsers may use, such as a proxy's, besides those of this machine.",
)
@options.log_level
def command(target: str, host: str, port: int, names: tuple[str, ...]) -> None:
    """Serve rq-dashboard for the batcher's server, until Ctrl-C: its queue, its workers, its dead batches.

    It asks for no password. So let only this machine reach it, or put a proxy in front of it that asks for
    one. It refuses host names that it does not know, and changes that pages of other sites request.

    \b
    Examples:
      microbatch dashboard letters
      microbatch dashboard letters --port 8080
    """
    try:
        # Imported here, because it comes with an extra.
        from microbatch.ops.dashboard import Dashboard  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the dashboard is not installed ({error.name} is missing): {how_to_install('dashboard')}"
        ) from error
    broker = reach(target, unused="told")
    dashboard = Dashboard(broker, host, port, names)
    name, where = broker.config.name, broker.server.where
    say(f"rq-dashboard of {name} on {where}: {dashboard.url} (Ctrl-C ends it)", err=True)
    dashboard.serve()
