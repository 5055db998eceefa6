"""The `microbatch` command: its subcommands, and the place where every error becomes one line."""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import click

from microbatch.broker.errors import MicrobatchError
from microbatch.broker.process.ending import end_with
from microbatch.broker.process.imports import collector_paused
from microbatch.ops import logs, options, streams
from microbatch.ops.local.data_folder import LocalServerError
from microbatch.ops.termination import Terminated

_COMMANDS = (
    "demo", "run", "up", "scheduler", "worker", "record", "results", "list", "status", "flush", "dead",
    "verify", "dashboard",
)  # fmt: skip

_WRONG = 2
_INTERRUPTED = 128 + signal.SIGINT
_NOBODY_READS = 128 + signal.SIGPIPE


class _Commands(click.Group):
    """Loads a subcommand when it is used, so that none waits for the imports of the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if cmd_name not in _COMMANDS:
            return None
        with collector_paused():
            module = importlib.import_module(f"microbatch.ops.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command as click does, and suggest a similar one if there is none."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            meant = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f"; did you mean '{meant[0]}'?" if meant else ""
            ctx.fail(f"No such command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:  # caught here, because click would write an empty line
            ctx.exit(_INTERRUPTED)
        except BrokenPipeError:
            streams.give_up_output()
            ctx.exit(_NOBODY_READS)
        return code


@click.command(cls=_Commands, context_settings=options.CONTEXT_SETTINGS, no_args_is_help=False)
@click.version_option(version("microbatch"), message="microbatch %(version)s")
@options.log_level
def cli() -> None:
    """Record single events on many hosts, process them in batches on many others.

    An APP says where your Config is: `module:attribute` or `file.py[:attribute]`; without an attribute it is
    the only Config there. A TARGET is an APP or a batcher's name. A TARGET with a colon or a slash, or with
    .py at its end, is an APP; any other word is a name.

    Settings come from the Config, from MICROBATCH_... in the environment, or from a .env file.
    MICROBATCH_REDIS_URL names the server.

    \b
    Examples:
      microbatch demo                              see what it does: eight letters, five seconds
      microbatch run letters.py                    your program, with its own server and workers
      microbatch scheduler letters:config          in production: on one host, or more that stand by
      microbatch worker letters:config --concurrency 8
      microbatch status letters --watch
    """
    logs.set_up()
    try:
        Path.cwd()
    except OSError as error:
        raise click.ClickException(
            f"the current folder can't be used ({error.strerror}); go to another one"
        ) from None


def main() -> NoReturn:
    """Run the command, and end the process with its exit code."""
    streams.set_up()
    end_with(lambda: run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command. Returns its exit code: 2 after an error, which becomes one line on standard error."""
    try:
        code = cli.main(list(arguments) or ["--help"], prog_name="microbatch", standalone_mode=False)
    except (click.ClickException, MicrobatchError, OSError) as error:
        streams.tell(f"microbatch: error: {_describe(error)}")
        if isinstance(error, (OSError, streams.StreamClosed)):
            streams.give_up_output()
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
        case OSError() if "usable temporary directory" in str(error):
            return f"{error.strerror}; set TMPDIR to a folder that can be written"
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        case LocalServerError():
            return str(error)  # several lines: it shows the end of the server's log
        case _:
            return " ".join(str(error).split())
