"""``microbatch record``: records events from files or standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from microbatch.broker.broker import Broker
from microbatch.ops import options
from microbatch.ops.feed import Feed
from microbatch.ops.line_events import json_event, text_event
from microbatch.ops.pace import Pace
from microbatch.ops.target import is_app, reach
from microbatch.ops.views.terminal import say
from microbatch.producer.recorder import Recorder

_STDIN = "-"


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Record events from files or a pipe.")
@options.target
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--lines", is_flag=True, help="Record each line as a string, as it is. For logs.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="EVENTS_PER_SECOND",
    help="Record no faster than this.",
)
@click.option(
    "--skip-invalid", is_flag=True, help="Report a line that is not an event and go on, instead of ending."
)
@click.option("--create", is_flag=True, help="Allow a name that was never used before.")
@options.log_level
def command(
    target: str, files: tuple[str, ...], *, lines: bool, rate: float | None, skip_invalid: bool, create: bool
) -> None:
    """Record events: each line of FILES, or of standard input (also as -), is an event in JSON.

    Lines from a pipe are recorded as they arrive. A line that is not JSON, or is larger than max_event_bytes,
    ends the command with exit code 2. All lines before it are then recorded, and a message says at which line
    to go on.

    A bare name that was never used is refused, because it is probably mistyped, and nobody would look for the
    events. Give an APP, or --create.

    \b
    Examples:
      microbatch record letters events.jsonl
      tail -F access.log | microbatch record access_log:config --lines
      seq 1000 | microbatch record numbers --rate 50
    """
    broker = reach(
        target, unused="allowed" if create else "refused", otherwise="; use --create to begin a new one"
    )
    recorder = Recorder(broker) if is_app(target) else _recorder_by_name(broker)
    invalid: list[str] = []

    def on_invalid(what: str) -> None:
        invalid.append(what)
        say(f"microbatch record: skipped {what}", err=True)

    try:
        with _progress(files, recorder) as on_progress:
            feed = Feed(
                recorder,
                text_event if lines else json_event,
                pace=Pace(rate),
                on_invalid=on_invalid if skip_invalid else None,
                on_progress=on_progress,
            )
            _read_all(feed, files or (_STDIN,))
    except KeyboardInterrupt:
        _summarize(recorder, invalid)
        raise
    _summarize(recorder, invalid)


def _recorder_by_name(broker: Broker) -> Recorder:
    """A recorder with the settings that the active scheduler has published."""
    published = broker.published_config()
    if published.get("eager") and not broker.config.eager:
        broker = Broker(broker.config.model_copy(update={"eager": True}), server=broker.server)
    return Recorder(broker, published.get("max_size"))


def _read_all(feed: Feed, files: Sequence[str]) -> None:
    for file in files:
        if file == _STDIN:
            if sys.stdin.isatty():
                say("Type events, one a line; Ctrl-D ends.", err=True)
            feed.read("<stdin>", sys.stdin.buffer)
            continue
        try:
            with Path(file).open("rb") as stream:
                feed.read(file, stream)
        except OSError as error:
            raise click.ClickException(f"{file}: {error.strerror}") from error


def _summarize(recorder: Recorder, invalid: Sequence[str]) -> None:
    skipped = f", skipped {_number(len(invalid), 'line')}" if invalid else ""
    say(f"recorded {_number(recorder.recorded, 'event')}{skipped}", err=True)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


@contextmanager
def _progress(files: Sequence[str], recorder: Recorder) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal while files are read; no bar elsewhere, or for standard input."""
    console = Console(stderr=True)
    if not console.is_terminal or not files or _STDIN in files:
        yield lambda _: None
        return
    columns = (
        BarColumn(), DownloadColumn(), TextColumn("{task.fields[events]:,} events"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        total = sum(Path(file).stat().st_size for file in files)
        task = progress.add_task("", total=total, events=0)

        def on_progress(size: int) -> None:
            progress.update(task, advance=size, events=recorder.recorded)

        yield on_progress
