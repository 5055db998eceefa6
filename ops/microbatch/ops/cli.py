"""The `microbatch` command: its subcommands, and the border where every error becomes one line."""

from __future__ import annotations

import difflib
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import click

from microbatch.broker.errors import MicrobatchError
from microbatch.ops import logs, options
from microbatch.ops.local_server import LocalServerError
from microbatch.ops.termination import Terminated

_COMMANDS = (
    "demo", "run", "up", "scheduler", "worker", "record", "results", "list", "status", "flush", "dead",
    "verify", "dashboard",
)  # fmt: skip

_WRONG = 2
_INTERRUPTED = 128 + signal.SIGINT
_NOBODY_READS = 128 + signal.SIGPIPE


class _Commands(click.Group):
    """Loads a subcommand when it is asked for: none waits for the others' imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"microbatch.ops.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with what may have been meant."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            meant = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"; did you mean '{meant[0]}'?" if meant else ""
            ctx.fail(f"No such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            if sys.stdout is not None:  # closed, as with >&-
                sys.stdout.flush()
        except KeyboardInterrupt:  # click itself would write an empty line
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            # Whoever read the output has gone, and Python would stumble over what it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_NOBODY_READS)
        return code


@click.command(cls=_Commands, context_settings=options.CONTEXT_SETTINGS, no_args_is_help=False)
@click.version_option(version("microbatch"), message="microbatch %(version)s")
@options.log_level
def cli() -> None:
    """Record single events on many hosts, process them in batches on many others.

    An APP is where your Config is: `module:attribute` or `file.py[:attribute]`; without an attribute it is
    the one Config there. A TARGET is an APP or just a batcher's name: what has a colon, a slash or .py at
    its end is an APP; any other word is a name.

    Settings come from the Config, from MICROBATCH_... in the environment, or from a .env file. The server is
    MICROBATCH_REDIS_URL.

    \b
    Examples:
      microbatch demo                              eight letters, five seconds: see what it does
      microbatch run letters.py                    your program, with a server and workers of its own
      microbatch scheduler letters:config          in production: on one host, or on more to stand by
      microbatch worker letters:config --concurrency 8
      microbatch status letters --watch
    """
    logs.set_up()


def main() -> NoReturn:
    """The command itself."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the locale's encoding lacks is shown by its code, as on standard error, and ends nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command, and return its exit code: 2, after one line on standard error, for what went wrong."""
    try:
        code = cli.main(list(arguments) or ["--help"], prog_name="microbatch", standalone_mode=False)
    except (click.ClickException, MicrobatchError) as error:
        click.echo(f"microbatch: error: {_describe(error)}", err=True)
        code = _WRONG
    except (click.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except Terminated as termination:
        code = termination.exit_code
    return code if isinstance(code, int) else 0


def _describe(error: Exception) -> str:
    match error:
        case click.UsageError(ctx=click.Context() as context):
            return f"{error.format_message().rstrip('.')} (see '{context.command_path} --help')"
        case click.ClickException():
            return error.format_message()
        case LocalServerError():
            return str(error)  # several lines: it shows the end of the server's log
        case _:
            return " ".join(str(error).split())
