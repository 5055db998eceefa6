"""``microbatch run``: runs an app's own program, with all that it needs."""

from __future__ import annotations

import click

from microbatch.broker.app.loading import load_config
from microbatch.broker.transport.url import safe_url
from microbatch.ops import options
from microbatch.ops.local.program import Program, hiding_modules
from microbatch.ops.local.stack import Stack, left_behind
from microbatch.ops.termination import terminable
from microbatch.ops.views.terminal import say


@click.command(
    context_settings={**options.CONTEXT_SETTINGS, "allow_interspersed_args": False},
    short_help="Run your program, with all that it needs.",
)
@options.workers
@options.app
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@options.log_level
def command(app: str, arguments: tuple[str, ...], workers: int) -> int:
    """Run an app's own program, with a server, a scheduler and workers that live as long as it does.

    Arguments after APP go to the program. When the program ends, the rest is ended too, and the program's
    exit code is this command's. The server's data are then gone; `microbatch up --data-dir` keeps them. If
    redis_url is set, for example by MICROBATCH_REDIS_URL, that server is used and none is started.

    \b
    Examples:
      microbatch run letters.py
      microbatch run --workers 4 letters.py a b d --fast
      microbatch run --log-level INFO package.letters:config
    """
    config = load_config(app)
    if config.redis_url is not None:
        say(
            f"microbatch run: using the server at {safe_url(config.redis_url)}, as redis_url is set", err=True
        )
    for path in hiding_modules(app):
        say(
            f"microbatch run: {path} has the name of a module of Python's own library, and the program "
            "imports it in that module's place; rename it",
            err=True,
        )
    with terminable(), Stack(app, config, workers=workers) as stack:
        code = Program(app, arguments, stack.environment).run(check=stack.check)
        if stack.server is not None and (left := left_behind(stack)):
            say(
                f"microbatch run: {left} events or results were not dealt with when the program ended, "
                "and are gone with its server",
                err=True,
            )
        return code
