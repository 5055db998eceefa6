"""``microbatch results``: runs a consumer on the command line."""

from __future__ import annotations

import click

from microbatch.ops import options
from microbatch.ops.consuming import Consuming, print_failure, print_result
from microbatch.ops.target import is_app, reach


@click.command(
    context_settings=options.CONTEXT_SETTINGS, short_help="Handle results: print them as JSON lines."
)
@options.target
@click.option("--follow", "-f", is_flag=True, help="Go on with later results, until Ctrl-C or SIGTERM.")
@click.option("--handle", is_flag=True, help="Call the app's own handlers instead of printing.")
@options.log_level
def command(target: str, *, follow: bool, handle: bool) -> int:
    """Handle results: print each as one line of JSON. The server then no longer has it.

    Without --follow it ends when every event recorded before its start is dealt with: cut at its tick, run,
    and its result handled, here or by another consumer. It is one of the batcher's consumers, so each result
    goes to it or to another one. After SIGTERM or Ctrl-C it finishes the results in hand.

    A line has "batch", "trigger", "size", "attempt", "cut_at", "recorded_at", and either "result" or, for a
    dead batch, "failure" with "error", "traceback" and "events". NaN and the infinities, which JSON lacks,
    are printed as null.

    \b
    Examples:
      microbatch results letters > totals.jsonl
      microbatch results letters --follow | jq .result
      microbatch results access_log:config --follow --handle     the app's own result_handler
    """
    if handle and not is_app(target):
        raise click.UsageError("--handle calls an app's handlers: name the app, such as letters:config")
    broker = reach(target, unused="told")
    config = broker.config
    broker.close()
    if not handle:
        config = config.model_copy(update={"result_handler": print_result, "failure_handler": print_failure})
    return Consuming(config).run(follow=follow)
